"""The messages that have arrived on a stream and have not been taken.

ttrpc has no flow control per stream. So an inbox that is full first holds back the whole connection, as Go's does, but
only for a second: then it gives up its own stream, whose reader finds an error when it comes back, so that one reader
that is stuck does not stop the others for long.
"""

from __future__ import annotations

import asyncio
from collections import deque

from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError

from ttrpc.connection import Connection

#: An inbox is full at this many messages or bytes. What one read from the transport brought still gets in.
MESSAGES_MAX = 64
BYTES_MAX = 4 << 20
#: Seconds that a full inbox may hold back its connection.
FULL_SECONDS = 1.0


class Inbox:
    """A queue with one reader, that ends with or without an error."""

    __slots__ = ("_bytes", "_connection", "_end", "_error", "_messages", "_timer", "_waiter")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._end = False
        self._error: GRPCError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will be put in."""
        return self._end

    @property
    def error(self) -> GRPCError | None:
        """The error at the end of the queue; None if there is none, or no end."""
        return self._error

    def put(self, payload: bytes) -> None:
        """Add a message; it is dropped if the inbox has ended."""
        if self._end:
            return
        self._messages.append(payload)
        self._bytes += len(payload)
        self._wake()
        if self._timer is None and (len(self._messages) >= MESSAGES_MAX or self._bytes >= BYTES_MAX):
            self._connection.hold_reading(self)
            self._timer = self._connection.loop.call_later(FULL_SECONDS, self._overflow)

    def end(self, error: GRPCError | None = None) -> None:
        """End the queue after what it holds, with `error` if given. Idempotent: the first end counts."""
        if not self._end:
            self._end = True
            self._error = error
            self._release()
            self._wake()

    def fail(self, error: GRPCError) -> None:
        """End the queue now: what it holds is dropped. An end that has come before this counts only if it is read."""
        if not self._end or self._messages:
            self._messages.clear()
            self._bytes = 0
            self._end = False
            self.end(error)

    async def get(self) -> bytes | None:
        """Return the next message, or None at the end; raise the error that ended the queue. Raises it every time."""
        while not self._messages:
            if self._end:
                if self._error is not None:
                    raise self._error
                return None
            await self._wait()
        payload = self._messages.popleft()
        self._bytes -= len(payload)
        if self._timer is not None and len(self._messages) <= MESSAGES_MAX // 2 and self._bytes < BYTES_MAX:
            self._release()
        return payload

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise ProtocolError("another task is receiving from this stream")
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _overflow(self) -> None:
        self.fail(GRPCError(Status.RESOURCE_EXHAUSTED, "stream buffer full"))

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._connection.release_reading(self)
