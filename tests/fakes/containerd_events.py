"""containerd's event service, as far as a shim sees it: `containerd.services.events.ttrpc.v1.Events` on a UNIX socket.

It checks envelopes as containerd's exchange does, can be taken away and brought back, and lets a test wait for events.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.codec import MessageCodec, decode
from protos.gen.containerd import events
from protos.gen.containerd.services.events.ttrpc.v1 import EventsBase, ForwardRequest
from protos.gen.containerd.types import Envelope
from protos.gen.wellknown import Empty
from ttrpc.server import Server


class FakeEvents(EventsBase):
    """Records what is forwarded to it; `refuse` answers the next request with an error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.envelopes: list[Envelope] = []
        self.refuse: GRPCError | None = None
        self._arrived = anyio.Event()

    async def forward(self, message: ForwardRequest) -> Empty:
        if self.refuse is not None:
            error, self.refuse = self.refuse, None
            raise error
        envelope = message.envelope
        if envelope is None or not envelope.namespace or not envelope.topic.startswith("/"):
            raise GRPCError(Status.INVALID_ARGUMENT, "envelope: invalid namespace or topic")
        if envelope.timestamp is None or not envelope.timestamp.seconds:
            raise GRPCError(Status.INVALID_ARGUMENT, "timestamp must be set on forwarded event")
        self.envelopes.append(envelope)
        self._arrived.set()
        self._arrived = anyio.Event()
        return Empty()

    @property
    def topics(self) -> list[str]:
        """Topics so far, in order of arrival."""
        return [envelope.topic for envelope in self.envelopes]

    @property
    def messages(self) -> list[Any]:
        """The events themselves."""
        return [_unpack(envelope) for envelope in self.envelopes]

    async def wait_for(self, count: int, timeout: float = 10) -> None:
        """Return when there are `count` events at least."""
        with anyio.fail_after(timeout):
            while len(self.envelopes) < count:
                await self._arrived.wait()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeEvents]:
        """Be there while the block runs; may be entered again, as after a restart of containerd."""
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(self.path))
        listener.listen(16)
        async with Server([self], MessageCodec()) as server:
            await server.listen(listener)
            try:
                yield self
            finally:
                self.path.unlink(missing_ok=True)
                await server.close(0)


def _unpack(envelope: Envelope) -> Any:
    assert envelope.event is not None
    package, _, name = envelope.event.type_url.rpartition(".")
    assert package == "containerd.events"
    return decode(getattr(events, name), envelope.event.value)
