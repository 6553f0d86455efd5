"""What both roles do with a transport: hold back the handlers or callers when the peer is slow to read, hold back the
peer when a handler or caller is, and close in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from ttrpc.alarm import Alarm

#: Seconds that a closed connection may take to send what it still holds.
CLOSE_SECONDS = 1.0


class Connection(asyncio.Protocol):
    """One connection, from `connection_made` to `connection_lost`, after which it is of no use."""

    #: The transport's own `write`: the fast path of every call. There is none before `connection_made`.
    write: Callable[[bytes], None]
    #: Its way to send what is in a pipe (`FdTransport.write_piped`), if it has one.
    write_piped: Callable[[bytes, int, int], None] | None = None

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.write_paused = False
        #: Ends the calls whose deadline has passed.
        self.alarm = Alarm(self.loop)
        #: Why the connection was lost; None before that.
        self.cause: str | None = None
        self._transport: asyncio.Transport | None = None
        self._close_cause: str | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()
        self._drain_waiters: dict[asyncio.Future[None], None] = {}
        self._reading_held_by: set[object] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self.write = self._transport.write
        self.write_piped = getattr(transport, "write_piped", None)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed, closing or lost."""
        return self.cause is not None or self._close_cause is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the cause and let go of everybody who waits for the connection."""
        self.cause = self._close_cause or (str(exc) or type(exc).__name__ if exc else "end of file")
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self.alarm.clear()
        self._reading_held_by.clear()
        self.resume_writing()
        self._lost.set()

    def pause_writing(self) -> None:
        """The peer is slow to read: `drained` waits."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.write_paused = False
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def drained(self) -> None:
        """Return once the transport wants more to write, or is lost."""
        while self.write_paused:
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._drain_waiters[waiter] = None
            try:
                await waiter
            finally:
                del self._drain_waiters[waiter]

    def hold_reading(self, holder: object) -> None:
        """Stop reading until `release_reading` has been called for every holder."""
        if not self._reading_held_by and self._transport is not None:
            self._transport.pause_reading()
        self._reading_held_by.add(holder)

    def release_reading(self, holder: object) -> None:
        """Take back a `hold_reading`; nothing happens if there is none."""
        if holder in self._reading_held_by:
            self._reading_held_by.discard(holder)
            if not self._reading_held_by and self._transport is not None:
                self._transport.resume_reading()

    def close(self, cause: str = "by this side") -> None:
        """Close after what is buffered has been sent, or has not for a second. Idempotent."""
        if self._transport is None or self.is_closed:
            return
        self._close_cause = cause
        self._transport.close()
        self._abort_timer = self.loop.call_later(CLOSE_SECONDS, self._transport.abort)

    async def wait_closed(self) -> None:
        """Return once the connection is lost."""
        await self._lost.wait()
