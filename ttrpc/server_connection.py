"""One client's connection to a server: dispatches its calls to handlers, each in a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, cast

from ttrpc.codec import Codec
from ttrpc.connection import Connection
from ttrpc.envelope import RpcStatus
from ttrpc.peer import Peer
from ttrpc.server_call import DEADLINE_EXCEEDED, Call
from ttrpc.server_streams import CallStarted, MessageReceived, ServerEvent, ServerStreams

log = logging.getLogger("ttrpc")

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
#: Lets a connection in and says who is there, or raises PermissionError.
Admit = Callable[["ServerConnection", asyncio.BaseTransport], Peer | None]


class ServerConnection(Connection):
    """Lives as long as its transport. When that goes, its handlers are cancelled."""

    def __init__(
        self,
        streams: ServerStreams,
        codec: Codec,
        spawn: Spawn,
        admit: Admit,
        on_lost: Callable[[ServerConnection], None],
    ) -> None:
        super().__init__()
        self.streams = streams
        self.codec = codec
        self.peer: Peer | None = None
        self._spawn = spawn
        self._admit = admit
        self._on_lost = on_lost
        self._calls: dict[int, Call] = {}

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The handlers that are at work for this connection."""
        return [call.task for call in self._calls.values()]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve the client, or turn it away."""
        super().connection_made(transport)
        try:
            self.peer = self._admit(self, transport)
        except PermissionError as exc:
            log.warning("refused a connection: %s", exc)
            self._close_cause = "refused"
            cast("asyncio.Transport", transport).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the handlers: nobody waits for them any more."""
        super().connection_lost(exc)
        self.abandon_calls()
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Dispatch what the client asks; nothing of a client that was turned away, or after a close."""
        if self.is_closed:
            return
        for event in self.streams.receive_data(data):
            self._on_event(event)
        answers = self.streams.take_answers()
        if answers:
            self.write(answers)

    def pause_writing(self) -> None:
        """Read no more requests from a client that does not read its answers."""
        super().pause_writing()
        self.hold_reading(self)

    def resume_writing(self) -> None:
        """Go on where `pause_writing` stopped."""
        super().resume_writing()
        self.release_reading(self)

    def give_up(self, call: Call, status: RpcStatus) -> None:
        """Answer a call, whose stream is open, with `status` and cancel its handler."""
        self.write(self.streams.fail(call.stream_id, status))
        self.forget(call)
        call.abandon()

    def forget(self, call: Call) -> None:
        """The handler of `call` has ended, or is none of this connection's business any more."""
        self._calls.pop(call.stream_id, None)

    def abandon_calls(self) -> None:
        """Cancel every handler, without an answer."""
        self.streams.abandon()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.abandon()

    def _on_event(self, event: ServerEvent) -> None:
        if isinstance(event, CallStarted):
            self._start(event)
            return
        call = self._calls.get(event.stream_id)
        if call is None:
            # What came together with a request that was too late.
            return
        if isinstance(event, MessageReceived):
            call.receive(event)
        else:
            self.forget(call)
            call.abandon()

    def _start(self, event: CallStarted) -> None:
        if event.request.timeout_nano < 0:
            if event.stream_id in self.streams:
                self.write(self.streams.fail(event.stream_id, DEADLINE_EXCEEDED))
            return
        call = Call(self, event)
        self._calls[event.stream_id] = call
        call.task = self._spawn(call.run())
