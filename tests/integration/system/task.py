"""Driving a shim's Task service directly, as containerd does, with streams that a test holds itself."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos import anys
from protos.gen.containerd.task.v2 import (
    CloseIoRequest,
    DeleteRequest,
    DeleteResponse,
    ExecProcessRequest,
    StartRequest,
    TaskStub,
    WaitRequest,
)
from protos.gen.wellknown import Any as AnyMessage

#: Seconds that a process of these tests may take.
PATIENCE = 60.0


async def expect_status(wanted: Status, call: Awaitable[Any]) -> None:
    """Await a call that must fail with status `wanted`."""
    with pytest.raises(GRPCError) as refused:
        await call
    assert refused.value.status is wanted, f"{refused.value.status.name}: {refused.value.message}"


class Exec:
    """A process of a container; streams are what containerd may name: FIFOs, URIs, or empty."""

    def __init__(
        self,
        task: TaskStub,
        container: str,
        exec_id: str,
        *command: str,
        stdin: Path | str = "",
        stdout: Path | str = "",
        stderr: Path | str = "",
    ) -> None:
        self._task = task
        self._ids = {"id": container, "exec_id": exec_id}
        self._command = command
        self._request = ExecProcessRequest(
            id=container, exec_id=exec_id, stdin=str(stdin), stdout=str(stdout), stderr=str(stderr)
        )

    async def start(self) -> None:
        """Register and start it."""
        await self.add()
        await self.start_added()

    async def add(self) -> None:
        """Register it: `Exec`."""
        process = {"args": list(self._command), "cwd": "/", "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
        spec = AnyMessage(type_url=anys.PROCESS_URL, value=json.dumps(process).encode())
        await self._task.exec(dataclasses.replace(self._request, spec=spec))

    async def start_added(self) -> None:
        """Start what is registered."""
        await self._task.start(StartRequest(**self._ids))

    async def wait(self) -> int:
        """Its exit status, when it has ended."""
        answer = await asyncio.wait_for(self._task.wait(WaitRequest(**self._ids)), PATIENCE)
        return answer.exit_status

    async def close_stdin(self) -> None:
        """`CloseIO`."""
        await self._task.close_io(CloseIoRequest(stdin=True, **self._ids))

    async def delete(self) -> DeleteResponse:
        """`Delete`."""
        return await self._task.delete(DeleteRequest(**self._ids))

    async def run(self) -> int:
        """Start, wait and delete; the exit status."""
        await self.start()
        status = await self.wait()
        await self.delete()
        return status


def make_fifos(directory: Path, *names: str) -> Sequence[Path]:
    """FIFOs in `directory`, as containerd's clients make them."""
    paths = [directory / name for name in names]
    for path in paths:
        os.mkfifo(path, 0o700)
    return paths


class Reader:
    """The client's end of an output FIFO. Opening it never waits; reading does, with a deadline."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.data = b""

    async def read(self, limit: int = 1 << 16, timeout: float = PATIENCE) -> bytes:
        """The next bytes, at most `limit`; empty at the end. `TimeoutError` if there are none in time."""
        await _ready(self._fd, asyncio.get_running_loop().add_reader, timeout)
        chunk = os.read(self._fd, limit)
        self.data += chunk
        return chunk

    async def read_until(self, text: bytes) -> bytes:
        """Read until `text` is there; returns all that was read so far."""
        while text not in self.data:
            assert await self.read(), f"the stream ended without {text!r}: {self.data[-200:]!r}"
        return self.data

    async def read_all(self) -> bytes:
        """Read to the end of the stream; returns all that was read so far."""
        while await self.read():
            pass
        return self.data

    def close(self) -> None:
        """Go away."""
        os.close(self._fd)


class Writer:
    """The client's end of an input FIFO, whose other end the shim has open already."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    async def write(self, data: bytes, timeout: float = PATIENCE) -> None:
        """Write all of it. `TimeoutError` if the stream takes nothing for `timeout` seconds."""
        rest = memoryview(data)
        while rest:
            await _ready(self._fd, asyncio.get_running_loop().add_writer, timeout)
            try:
                rest = rest[os.write(self._fd, rest[: 1 << 16]) :]
            except BlockingIOError:
                continue

    def close(self) -> None:
        """Go away."""
        os.close(self._fd)


async def _ready(fd: int, add: Any, timeout: float) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add(fd, ready.set)
    try:
        await asyncio.wait_for(ready.wait(), timeout)
    finally:
        loop.remove_reader(fd)
        loop.remove_writer(fd)
