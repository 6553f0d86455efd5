"""The client's end of a connection: hands what arrives to the calls, and fails them all when the connection is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grpclib.exceptions import GRPCError

from ttrpc.client_streams import ClientStreams
from ttrpc.codec import Codec
from ttrpc.connection import Connection
from ttrpc.errors import closed, to_grpc_error

if TYPE_CHECKING:
    from ttrpc.client_call import Call


class ClientConnection(Connection):
    """Lives as long as its transport."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec
        self.streams = ClientStreams()
        #: The calls whose streams are open, by stream id. A call enters and leaves by itself.
        self.calls: dict[int, Call[Any, Any]] = {}
        self._on_close: list[Callable[[GRPCError], None]] = []
        self._made = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let calls begin."""
        super().connection_made(transport)
        self._made.set()

    async def wait_made(self) -> None:
        """Return once calls can be made."""
        await self._made.wait()

    def data_received(self, data: bytes) -> None:
        """Hand out what has arrived."""
        for stream_id, payload, ended, error in self.streams.receive_data(data):
            call = self.calls.pop(stream_id) if ended else self.calls[stream_id]
            if payload is not None:
                call.inbox.put(payload)
            if ended:
                call.inbox.end(None if error is None else to_grpc_error(error))
                self.alarm.stop(call)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail every call that is still open."""
        super().connection_lost(exc)
        if self.streams.mid_frame:
            self.cause = f"{self.cause} in the middle of a frame"
        calls, self.calls = self.calls, {}
        for stream_id, call in calls.items():
            self.streams.forget(stream_id)
            call.inbox.end(self.closed_error())
        for callback in self._on_close:
            callback(self.closed_error())

    def closed_error(self) -> GRPCError:
        """Return the error of a call on this connection now that it is closed or being closed."""
        return closed(self.cause or self._close_cause or "not connected")

    def check_open(self) -> None:
        """Raise GRPCError(UNAVAILABLE) when no call can be made any more."""
        if self.is_closed:
            raise self.closed_error()

    def on_close(self, callback: Callable[[GRPCError], None]) -> None:
        """Call `callback` once when the connection is lost; soon, if it has been."""
        if self.cause is None:
            self._on_close.append(callback)
        else:
            self.loop.call_soon(callback, self.closed_error())
