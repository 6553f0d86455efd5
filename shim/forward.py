"""The ways an event can take to containerd.

Over ttrpc where containerd says so (`TTRPC_ADDRESS`); through containerd's own `publish` command where only that is
known; to the log where there is neither, as under CRI-O.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
from contextlib import suppress
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.codec import MessageCodec, encode
from protos.gen.containerd.services.events.ttrpc.v1 import EventsStub, ForwardRequest
from protos.gen.containerd.types import Envelope
from shim.events import Forward, UndeliveredError
from ttrpc.client import Channel

#: Seconds that containerd may take for one event, and for the connection before it.
TIMEOUT = 5.0

# What says that containerd is away or busy, not that the event is wrong.
# (RESOURCE_EXHAUSTED is wrong with it: it is too large.)
_PASSING = frozenset({Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED})

_log = logging.getLogger(__name__)


def choose(ttrpc_address: str, publish_binary: str, address: str) -> Forward:
    """The best way there is."""
    if ttrpc_address:
        return TtrpcForward(ttrpc_address)
    if publish_binary:
        return BinaryForward(publish_binary, address)
    return LogForward()


class TtrpcForward:
    """`containerd.services.events.ttrpc.v1.Events/Forward`, over a connection that is made again when it is lost."""

    def __init__(self, address: str) -> None:
        self._path = address.removeprefix("unix://")
        self._channel: Channel | None = None

    async def __call__(self, envelope: Envelope) -> None:
        """See `Forward`."""
        try:
            if self._channel is None or self._channel.closed:
                self._channel = await Channel.connect_unix(self._path, MessageCodec(), timeout=TIMEOUT)
            channel: Any = self._channel
            await EventsStub(channel).forward(ForwardRequest(envelope=envelope), timeout=TIMEOUT)
        except GRPCError as error:
            if error.status not in _PASSING:
                raise
            self.close()
            raise UndeliveredError(f"{self._path}: {error.message}") from error
        except OSError as error:
            self.close()
            raise UndeliveredError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Give up the connection; the next event makes one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None


class BinaryForward:
    """One run of `<containerd> publish` per event, the event on its standard input."""

    def __init__(self, binary: str, address: str) -> None:
        self._binary = binary
        self._address = address

    async def __call__(self, envelope: Envelope) -> None:
        """See `Forward`."""
        command = [self._binary, "--address", self._address, "publish"]
        command += ["--topic", envelope.topic, "--namespace", envelope.namespace]
        data = encode(envelope.event) if envelope.event is not None else b""
        try:
            status, complaint = await _run(command, data)
        except OSError as error:
            raise UndeliveredError(f"{self._binary} publish: {error}") from error
        if status:
            reason = complaint.decode(errors="replace").strip() or f"exit status {status}"
            raise UndeliveredError(f"{self._binary} publish: {reason}")


async def _run(command: list[str], data: bytes) -> tuple[int, bytes]:
    """Run `command` with `data` on its input; return its exit status and standard error.

    Raises `OSError`, also when it does not end in time.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            _, complaint = await process.communicate(data)
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    return process.returncode or 0, complaint


class LogForward:
    """Nobody to tell: the log."""

    async def __call__(self, envelope: Envelope) -> None:
        """See `Forward`."""
        _log.info("event %s", envelope.topic)
