"""A call as a stub sees it: the interface of grpclib's client stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from ttrpc.codec import DecodeError
from ttrpc.deadline import Deadline, to_nanos
from ttrpc.envelope import Request, encode_request
from ttrpc.errors import DEADLINE_TEXT, OversizedMessageError, StreamClosedError
from ttrpc.frame import MESSAGE_MAX
from ttrpc.inbox import Inbox
from ttrpc.metadata import Pairs

if TYPE_CHECKING:
    from ttrpc.client_connection import ClientConnection

SendT = TypeVar("SendT")
RecvT = TypeVar("RecvT")


@lru_cache(maxsize=512)
def split_route(route: str) -> tuple[str, str]:
    """Return service and method of `/package.Service/Method`; ValueError for anything else."""
    service, slash, method = route.removeprefix("/").rpartition("/")
    if not (slash and service and method):
        raise ValueError(f"not a route of the form /package.Service/Method: {route!r}")
    return service, method


class Call(Generic[SendT, RecvT]):
    """One call, used as an async context manager: leaving it gives the call up if it has not ended.

    The request goes out with the first message (at once, where the client sends several). Every method raises
    GRPCError: the server's, or our own for a deadline, a message that is too large, or a lost connection.
    """

    __slots__ = (
        "_cardinality",
        "_connection",
        "_deadline",
        "_metadata",
        "_reply_type",
        "_response_max",
        "_route",
        "_sent_all",
        "_stream_id",
        "inbox",
    )

    def __init__(
        self,
        connection: ClientConnection,
        route: str,
        cardinality: Cardinality,
        reply_type: type[RecvT],
        deadline: Deadline | None,
        metadata: Pairs,
        response_max: int = MESSAGE_MAX,
    ) -> None:
        self._connection = connection
        self._route = split_route(route)
        self._cardinality = cardinality
        self._reply_type = reply_type
        self._deadline = deadline
        self._metadata = metadata
        self._response_max = response_max
        self._stream_id = 0
        self._sent_all = False
        #: What has arrived; filled by the connection.
        self.inbox = Inbox(connection)

    async def __aenter__(self) -> Call[SendT, RecvT]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._forget()
        self.inbox.end()

    async def send_request(self, *, end: bool = False) -> None:
        """Open a call on which the client sends several messages; `end`: it sends none.

        A request with a single message goes out with that message: then this does nothing, as stubs expect.
        """
        if not self._cardinality.client_streaming:
            if end:
                raise ProtocolError("a unary request needs a message")
            return
        if self._stream_id:
            raise ProtocolError("the request has been sent")
        await self._open(b"")
        if end:
            await self.end()

    async def send_message(self, message: SendT, *, end: bool = False) -> None:
        """Send a message; `end` says that it is the last. Waits while the server is slow to read."""
        if self._sent_all:
            raise ProtocolError("the last message has been sent")
        payload = self._connection.codec.encode(message)
        if not self._cardinality.client_streaming:
            self._sent_all = True
            await self._open(payload)
            return
        if not self._stream_id:
            await self._open(b"")
        await self._ready_to_send()
        try:
            self._connection.write(self._connection.streams.send(self._stream_id, payload))
        except OversizedMessageError as exc:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(exc)) from exc
        if end:
            await self.end()

    async def end(self) -> None:
        """Say that no more messages follow. A call with a single message has said so with it."""
        if not self._cardinality.client_streaming:
            if not self._sent_all:
                raise ProtocolError("a unary request needs a message")
            return
        if not self._stream_id or self._sent_all:
            raise ProtocolError("the last message has been sent" if self._sent_all else "no request has been sent")
        self._sent_all = True
        if self._stream_id in self._connection.streams:
            self._connection.write(self._connection.streams.end(self._stream_id))

    async def recv_message(self) -> RecvT | None:
        """Return the server's next message, or None when there are no more."""
        if not self._stream_id:
            raise ProtocolError("no request has been sent")
        payload = await self.inbox.get()
        if payload is None:
            return None
        try:
            return self._connection.codec.decode(self._reply_type, payload)
        except DecodeError as exc:
            raise GRPCError(Status.INTERNAL, f"ttrpc: error unmarshalling payload: {exc}") from exc

    def __aiter__(self) -> AsyncIterator[RecvT]:
        return self

    async def __anext__(self) -> RecvT:
        message = await self.recv_message()
        if message is None:
            raise StopAsyncIteration
        return message

    async def cancel(self) -> None:
        """Give the call up: receiving raises CANCELLED. The server is not told, for ttrpc has no frame for that."""
        self._give_up(Status.CANCELLED, "the call was cancelled")

    def expire(self) -> None:
        """Give the call up: its deadline has passed."""
        self._give_up(Status.DEADLINE_EXCEEDED, DEADLINE_TEXT)

    async def _open(self, payload: bytes) -> None:
        """Send the request."""
        connection = self._connection
        connection.check_open()
        if connection.write_paused:
            await self._drained()
        service, method = self._route
        request = encode_request(Request(service, method, payload, self._timeout_nano(), self._metadata))
        try:
            self._stream_id, frame = connection.streams.open(self._cardinality, request, self._response_max)
        except OversizedMessageError as exc:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(exc)) from exc
        except StreamClosedError as exc:
            raise GRPCError(Status.UNAVAILABLE, f"ttrpc: {exc}") from exc
        connection.calls[self._stream_id] = self
        if self._deadline is not None:
            connection.alarm.start(self, self._deadline.when)
        connection.write(frame)

    def _timeout_nano(self) -> int:
        """Return the time left for the server; 0 without a deadline. Raises when none is left."""
        if self._deadline is None:
            return 0
        remaining = self._deadline.time_remaining()
        if remaining <= 0:
            raise GRPCError(Status.DEADLINE_EXCEEDED, DEADLINE_TEXT)
        return to_nanos(remaining)

    async def _ready_to_send(self) -> None:
        """Return when a message may be written; raise what ended the call."""
        if self._connection.write_paused and not self.inbox.ended:
            await self._drained()
        if self.inbox.ended:
            raise self.inbox.error or StreamTerminatedError("the call has ended: the server wants no more messages")

    async def _drained(self) -> None:
        """Wait until the connection can take more, no longer than the deadline."""
        remaining = None if self._deadline is None else self._deadline.time_remaining()
        try:
            async with asyncio.timeout(remaining):
                await self._connection.drained()
        except TimeoutError:
            raise GRPCError(Status.DEADLINE_EXCEEDED, DEADLINE_TEXT) from None
        self._connection.check_open()

    def _give_up(self, code: Status, text: str) -> None:
        self._forget()
        self.inbox.fail(GRPCError(code, text))

    def _forget(self) -> None:
        if self._connection.calls.pop(self._stream_id, None) is not None:
            self._connection.streams.forget(self._stream_id)
            self._connection.alarm.stop(self)
