"""What a fake guest is made of: containers, processes with scripted lives, and their streams. Plain objects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from grpclib import GRPCError
from grpclib.const import Status

from protos.gen import grpc as pb


class Stream:
    """One output of a process: bytes written by the test, read by calls, in order; then its end."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data)
        self._given = 0
        self._last = b""
        self._ended = False
        self._changed = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Output `data`."""
        self._data += data
        self._changed.set()

    def end(self) -> None:
        """The end of the stream, once what was written has been read."""
        self._ended = True
        self._changed.set()

    async def read(self, length: int, position: int | None = None) -> bytes:
        """At most `length` bytes as soon as there are some, empty at the end; first what was missed, by `position`."""
        if position is not None and position < self._given:
            return self._last[position - self._given :][:length]
        while not self._data and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        self._last = bytes(self._data[:length])
        self._given += len(self._last)
        del self._data[:length]
        return self._last


@dataclass
class FakeProcess:
    """A process in the guest. Ends by `exit`, by its script, or by a signal."""

    container_id: str
    exec_id: str
    #: What was asked for: the init's or exec's OCI process.
    request: Any
    stdout: Stream = field(default_factory=Stream)
    stderr: Stream = field(default_factory=Stream)
    stdin: bytearray = field(default_factory=bytearray)
    stdin_closed: bool = False
    signals: list[int] = field(default_factory=list)
    #: Rows and columns of the terminal.
    size: tuple[int, int] | None = None
    started: bool = False
    echo: bool = False
    #: Signals that do not end it.
    ignores: frozenset[int] = frozenset()
    status: int | None = None
    #: The agent knows it no more.
    forgotten: bool = False
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def exit(self, status: int) -> None:
        """End with `status`; its outputs end too. The first end counts."""
        if self.status is None:
            self.status = status
            self.stdout.end()
            self.stderr.end()
            self._ended.set()

    async def wait(self) -> int:
        """The status, once there is one."""
        await self._ended.wait()
        assert self.status is not None
        return self.status


@dataclass
class FakeContainer:
    """A container in the guest, with the request that made it."""

    request: pb.CreateContainerRequest
    init: FakeProcess
    execs: dict[str, FakeProcess] = field(default_factory=dict)
    paused: bool = False
    resources: pb.LinuxResources | None = None
    stats: pb.StatsContainerResponse = field(default_factory=pb.StatsContainerResponse)

    @property
    def processes(self) -> list[FakeProcess]:
        """Init and execs."""
        return [self.init, *self.execs.values()]


@dataclass(frozen=True)
class Script:
    """What a process does by itself when it starts. Without an exit code it runs until a signal ends it."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    #: Write standard input back to standard output, and end with 0 when it is closed.
    echo: bool = False
    ignores: frozenset[int] = frozenset()
    #: Fail the start instead: (code, message).
    error: tuple[Status, str] | None = None

    def run(self, process: FakeProcess) -> None:
        """Play it on `process`, or raise its error."""
        if self.error:
            raise GRPCError(*self.error)
        process.started = True
        process.echo, process.ignores = self.echo, self.ignores
        process.stdout.write(self.stdout)
        process.stderr.write(self.stderr)
        if self.exit_code is not None:
            process.exit(self.exit_code)
