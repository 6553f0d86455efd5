"""The daemon's side of the worker: one process for one piece of work, with a deadline.

`async with working(namespace) as worker` starts it under a parent-death signal; leaving ends it, whatever it does then.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from hypervisor.process import ChildProcess, spawn
from sandbox.errors import SandboxError, UnavailableError
from sandbox.network import wire
from sandbox.network.kernel.library import is_loaded
from sandbox.network.plan import Endpoint
from sandbox.network.scan import Scan

#: Seconds for one request: the work takes milliseconds, the start of an interpreter on a busy host much longer.
REQUEST_TIMEOUT = 20.0
#: Seconds for a killed worker to be reaped.
END_TIMEOUT = 2.0
_PROGRAM = Path(__file__).with_name("worker.py")
_NAME = "kata-network-worker"


class Device:
    """What the worker has made for an endpoint: the device's index there, and descriptors that are the caller's."""

    def __init__(self, index: int, taps: tuple[int, ...], vhosts: tuple[int, ...]) -> None:
        self.index = index
        self.taps = taps
        self.vhosts = vhosts

    def close(self) -> None:
        """Close the descriptors; idempotent."""
        for fd in (*self.taps, *self.vhosts):
            os.close(fd)
        self.taps = self.vhosts = ()


class Worker:
    """A running worker; made by `start`. All its methods raise `SandboxError` with what the kernel said."""

    def __init__(self, channel: socket.socket, child: ChildProcess) -> None:
        self._channel = channel
        self._child = child

    @classmethod
    def start(cls, namespace: int) -> Worker:
        """One in the namespace behind a descriptor, to be ended; raises `HypervisorError` if it can't be started."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child = _forked(theirs.fileno(), namespace) if is_loaded() else _spawned(theirs.fileno(), namespace)
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        return cls(ours, child)

    def kill(self) -> None:
        """End it, whatever it does, without waiting; idempotent."""
        self._child.kill()
        self._channel.close()

    async def end(self) -> None:
        """End it, and wait until it has."""
        self.kill()
        with anyio.CancelScope(shield=True), anyio.move_on_after(END_TIMEOUT, shield=True):
            await self._child.wait()

    async def scan(self) -> Scan:
        """What is in the namespace."""
        answer, _ = await self._request({"do": "scan"})
        return Scan.from_json(answer["scan"])

    async def attach(self, endpoints: Sequence[Endpoint]) -> list[Device]:
        """Make the endpoints, or none of them."""
        answer, fds = await self._request({"do": "attach", "endpoints": [each.to_json() for each in endpoints]})
        rest = iter(fds)
        return [
            Device(
                each["index"],
                tuple(next(rest) for _ in range(each["taps"])),
                tuple(next(rest) for _ in range(each["vhosts"])),
            )
            for each in answer["devices"]
        ]

    async def detach(self, endpoints: Sequence[Endpoint]) -> None:
        """Take back what stays of endpoints whose descriptors are closed."""
        await self._request({"do": "detach", "endpoints": [each.to_json() for each in endpoints]})

    async def resize(self, devices: Sequence[tuple[int, int]]) -> None:
        """Set the MTU of devices: pairs of index and MTU."""
        await self._request({"do": "resize", "devices": list(devices)})

    async def _request(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        fds: list[int] = []
        try:
            with anyio.fail_after(REQUEST_TIMEOUT):
                await self._send(wire.pack(request))
                length = wire.body_length(await self._receive(wire.HEADER_SIZE, fds))
                answer = wire.unpack(await self._receive(length, fds))
        except BaseException as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, TimeoutError):
                raise UnavailableError(f"the network's worker did not answer within {REQUEST_TIMEOUT:g} s") from error
            if isinstance(error, OSError | ValueError):
                raise UnavailableError(f"the network's worker failed: {self._last_words(error)}") from error
            raise
        if "error" in answer:
            raise SandboxError(str(answer["error"]))
        return answer, fds

    def _last_words(self, error: Exception) -> str:
        lines = self._child.stderr_tail.splitlines()
        return lines[-1] if lines else str(error)

    async def _send(self, data: bytes) -> None:
        while data:
            await anyio.wait_writable(self._channel)
            data = data[self._channel.send(data) :]

    async def _receive(self, size: int, fds: list[int]) -> bytes:
        data = b""
        while len(data) < size:
            await anyio.wait_readable(self._channel)
            piece, found, _, _ = socket.recv_fds(self._channel, size - len(data), wire.MAX_FDS, socket.MSG_CMSG_CLOEXEC)
            fds += found
            if not piece:
                # Its last words come with its end.
                with anyio.move_on_after(END_TIMEOUT):
                    await self._child.wait()
                raise ConnectionError("it ended")
            data += piece
        return data


def _forked(channel: int, namespace: int) -> ChildProcess:
    """A daemon whose server has loaded the library has but to fork."""
    from hypervisor.fork import fork
    from sandbox.network.worker import serve

    return fork(lambda: serve(channel, namespace), name=_NAME, fds=(channel, namespace))


def _spawned(channel: int, namespace: int) -> ChildProcess:
    search_path = ":".join(entry for entry in sys.path if entry.startswith("/"))
    program = [sys.executable, "-I", "-S", str(_PROGRAM), str(channel), str(namespace), search_path]
    return spawn(program, fds=(channel, namespace))


@asynccontextmanager
async def working(namespace: int, started: Worker | None = None) -> AsyncIterator[Worker]:
    """A worker in the namespace behind a descriptor, `started` if there is one already.

    Raises `HypervisorError` if it can't be started.
    """
    worker = started or Worker.start(namespace)
    try:
        yield worker
    finally:
        await worker.end()
