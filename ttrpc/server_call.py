"""A call as its handler sees it: the interface of grpclib's server stream, and how the handler's end is answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError

from ttrpc.codec import DecodeError
from ttrpc.deadline import Deadline
from ttrpc.envelope import RpcStatus
from ttrpc.errors import DEADLINE_TEXT, OversizedMessageError, from_exception, rpc_status
from ttrpc.inbox import Inbox
from ttrpc.metadata import Metadata
from ttrpc.peer import Peer
from ttrpc.piped import PipedMessage
from ttrpc.server_streams import CallStarted, MessageReceived

if TYPE_CHECKING:
    from ttrpc.server_connection import ServerConnection

log = logging.getLogger("ttrpc")

DEADLINE_EXCEEDED = rpc_status(Status.DEADLINE_EXCEEDED, DEADLINE_TEXT)


class Call:
    """One call from its request to its answer. Handlers get it as `stream`.

    The answer is given once: by the handler's message (or the end of its messages), by its error, by the deadline or
    by a fault of the client, whichever is first. After that, or without a connection, the handler talks to nobody.
    """

    #: Runs the handler; set by the connection as soon as the call is made.
    task: asyncio.Task[None]

    __slots__ = ("_connection", "_handler", "_inbox", "_payload", "_request", "deadline", "stream_id", "task")

    def __init__(self, connection: ServerConnection, started: CallStarted) -> None:
        self.stream_id, self._handler, self._request, receiving = started
        self._connection = connection
        self._payload: bytes | None = self._request.payload
        self._inbox: Inbox | None = None
        #: When the client gives up; None if it never does.
        self.deadline: Deadline | None = None
        if self._handler.cardinality.client_streaming:
            self._open_inbox(receiving)
        if self._request.timeout_nano:
            self._set_deadline(self._request.timeout_nano / 1e9)

    @property
    def metadata(self) -> Metadata:
        """The metadata of the request."""
        return Metadata(self._request.metadata)

    @property
    def peer(self) -> Peer | None:
        """Who called; None where the transport can't tell."""
        return self._connection.peer

    async def recv_message(self) -> Any:
        """Return the client's next message, or None when there are no more; GRPCError when it can't be decoded."""
        if self._inbox is None:
            payload, self._payload = self._payload, None
        else:
            payload = await self._inbox.get()
        if payload is None:
            return None
        try:
            return self._connection.codec.decode(self._handler.request_type, payload)
        except DecodeError as exc:
            raise GRPCError(Status.INTERNAL, f"ttrpc: error unmarshalling payload: {exc}") from exc

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        message = await self.recv_message()
        if message is None:
            raise StopAsyncIteration
        return message

    async def send_message(self, message: Any) -> None:
        """Send a message; where the method has only one, that ends the call.

        Waits while the client is slow to read. Raises GRPCError for a message that is too large (containerd 1.6 would
        panic on it), and ProtocolError after the end of the call.
        """
        if isinstance(message, PipedMessage):
            await self._send_piped(message)
            return
        await self._send(self._connection.codec.encode(message))

    async def _send(self, payload: bytes) -> None:
        connection = self._connection
        await self._ready()
        try:
            if self._handler.cardinality.server_streaming:
                frame = connection.streams.send(self.stream_id, payload)
            else:
                frame = connection.streams.respond(self.stream_id, payload)
        except OversizedMessageError as exc:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(exc)) from exc
        connection.write(frame)

    async def _send_piped(self, message: PipedMessage) -> None:
        connection = self._connection
        try:
            if connection.write_piped is None or self._handler.cardinality.server_streaming:
                await self._send(message.head + message.read())
                return
            await self._ready()
            head = connection.streams.respond_head(self.stream_id, message.head, message.size)
            connection.write_piped(head, message.fd, message.size)
        finally:
            message.close()

    async def _ready(self) -> None:
        """Wait for a client that is slow to read; raises `ProtocolError` when there is nobody to answer any more."""
        connection = self._connection
        if connection.write_paused:
            await connection.drained()
        if self.stream_id not in connection.streams:
            raise ProtocolError("the call is over: answered, or its connection lost")

    async def run(self) -> None:
        """Run the handler and answer for it. Its errors end here, save those that end the program."""
        try:
            await self._handler.func(self)
        except Exception as exc:
            if not isinstance(exc, GRPCError):
                log.exception("%s/%s failed", self._request.service, self._request.method)
            self._fail(from_exception(exc))
        except BaseException:
            self._fail(rpc_status(Status.CANCELLED, "the handler was cancelled"))
            raise
        else:
            self._finish()
        finally:
            self._close()
            self._connection.forget(self)

    def receive(self, event: MessageReceived) -> None:
        """Take what the client has sent; the table of streams lets it send only where the method receives."""
        inbox = cast("Inbox", self._inbox)
        if event.payload is not None:
            inbox.put(event.payload)
        if event.ended:
            inbox.end()

    def expire(self) -> None:
        """Give up the call, whose deadline has passed, unless it has been answered."""
        if self.stream_id in self._connection.streams:
            self._connection.give_up(self, DEADLINE_EXCEEDED)

    def abandon(self) -> None:
        """Cancel the handler: the call has been answered, or nobody is there to be answered."""
        self._close()
        self.task.cancel()

    def _open_inbox(self, receiving: bool) -> None:
        self._inbox = Inbox(self._connection)
        if self._payload:
            self._inbox.put(self._payload)
        if not receiving:
            self._inbox.end()

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = Deadline.from_timeout(seconds)
        self._connection.alarm.start(self, self.deadline.when)

    def _finish(self) -> None:
        """Answer for a handler that has returned."""
        streams = self._connection.streams
        if self.stream_id not in streams:
            return
        if self._handler.cardinality.server_streaming:
            self._connection.write(streams.end(self.stream_id))
        else:
            self._fail(rpc_status(Status.INTERNAL, "the handler sent no response"))

    def _fail(self, status: RpcStatus) -> None:
        if self.stream_id in self._connection.streams:
            self._connection.write(self._connection.streams.fail(self.stream_id, status))

    def _close(self) -> None:
        """Let go of the alarm and of a held-back connection."""
        if self.deadline is not None:
            self._connection.alarm.stop(self)
        if self._inbox is not None:
            self._inbox.end()
