"""A guest agent in memory, behind a real socket: the stand-in for a guest in tests, well-behaved or not.

    async with FakeAgent(tmp_path / "agent") as agent:
        agent.on_start("c1", stdout=b"hello", exit_code=3)
        client = await AgentClient.connect(agent.url, timeout=5)

It serves `grpc.AgentService` and `grpc.Health` over ttrpc as a guest does, on a plain UNIX socket (`kind="unix"`),
behind the virtio-serial preamble (`"serial"`) or behind `CONNECT` (`"hvsock"`). Containers and processes are plain
objects to look at and to steer; calls are recorded; faults are armed by RPC name.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from grpclib import GRPCError
from grpclib.const import Status

from protos.codec import MessageCodec
from protos.gen import grpc as pb
from protos.gen import types
from tests.fakes.agent_guest import FakeContainer, FakeProcess, Script
from tests.fakes.agent_service import FakeAgentService, FakeHealth
from tests.fakes.guest_files import GuestFiles
from ttrpc.fdtransport import FdTransport
from ttrpc.server import Server

#: How long a test waits for something to happen before it fails, in seconds.
PATIENCE = 5.0

_SERIAL_HELLO = re.compile(rb"KATA-AGENT 1 ([0-9a-f]{32})\n")
_CONNECT = re.compile(rb"CONNECT ([0-9]+)\n")


@dataclass
class Fault:
    """What is wrong with an RPC."""

    gate: asyncio.Event | None = None
    delay: float = 0.0
    error: GRPCError | None = None
    #: A reply in place of the right one, or a function from request to reply.
    answer: Any = None
    #: Every connection is cut when the call has been carried out, before its answer.
    loses_answer: bool = False
    #: How many more calls it holds for; None: all.
    times: int | None = None


class FakeAgent:
    """The agent. Use it as an async context manager; leaving it closes its socket and its connections."""

    def __init__(self, path: Path, *, kind: str = "unix", noise: bytes = b"", mute: bool = False) -> None:
        """Listen at `path`. `noise` is sent before the handshake's answer; `mute`: there is no answer at all."""
        #: Whether it knows nothing that Kata's agent does not.
        self.is_stock = False
        assert kind in {"unix", "serial", "hvsock"}
        self.path = path
        self.kind = kind
        self.noise = noise
        self.mute = mute
        self.containers: dict[str, FakeContainer] = {}
        self.sandbox: pb.CreateSandboxRequest | None = None
        self.destroyed = False
        #: Every call, in order of arrival: (RPC name, request).
        self.calls: list[tuple[str, Any]] = []
        self.interfaces: list[types.Interface] = []
        self.routes: list[types.Route] = []
        self.entropy = bytearray()
        self.files = GuestFiles()
        self.clock: tuple[int, int] | None = None
        #: The ports that hybrid vsock clients asked for.
        self.ports: list[int] = []
        #: A client's greeting has come; a client that got no answer has gone.
        self.greeted = asyncio.Event()
        self.left = asyncio.Event()
        self._scripts: dict[tuple[str, str], Script] = {}
        self._faults: dict[str, Fault] = {}
        self._ooms: asyncio.Queue[str] = asyncio.Queue()
        self._news = asyncio.Condition()
        self._stack = AsyncExitStack()
        self._transports: list[FdTransport] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False

    @property
    def url(self) -> str:
        """The agent URL to connect to."""
        scheme = {"unix": "unix", "serial": "serial", "hvsock": "hvsock"}[self.kind]
        return f"{scheme}://{self.path}" + (":1024" if self.kind == "hvsock" else "")

    # Life

    async def __aenter__(self) -> FakeAgent:
        services = [_served(FakeAgentService(self), self._serve), _served(FakeHealth(), self._serve)]
        self._server = await self._stack.enter_async_context(Server(services, MessageCodec(), require_same_user=False))
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(os.fspath(self.path))
        self._listener.listen()
        self._spawn(self._accept())
        return self

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        for task in self._tasks:
            task.cancel()
        self._listener.close()
        self.path.unlink(missing_ok=True)
        self.drop()
        await self._server.close(0)
        await self._stack.__aexit__(kind, error, trace)

    def drop(self) -> None:
        """Cut every connection, as when the guest dies. New ones are accepted, unless `refuse` was called."""
        for transport in self._transports:
            transport.abort()
        self._transports.clear()

    def refuse(self) -> None:
        """Close every connection from now on as soon as it is made."""
        self._refusing = True

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            connection.setblocking(False)
            self._spawn(self._welcome(connection))

    async def _welcome(self, connection: socket.socket) -> None:
        try:
            welcome = not self._refusing and await self._handshake(connection)
        except OSError:
            welcome = False
        except BaseException:
            connection.close()
            raise
        if not welcome:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        # uvloop's own transports are lost when a test ends while they are being made; this one is there at once.
        self._transports.append(FdTransport(loop, connection.detach(), self._server.protocol()))

    async def _handshake(self, connection: socket.socket) -> bool:
        """Play the guest's or the VMM's part; False when the client went away."""
        if self.kind == "unix":
            return True
        loop = asyncio.get_running_loop()
        pattern = _SERIAL_HELLO if self.kind == "serial" else _CONNECT
        seen = b""
        while not (found := pattern.search(seen)):
            data = await loop.sock_recv(connection, 4096)
            if not data:
                return False
            seen += data
        assert seen.startswith(bytes(16)) or self.kind == "hvsock", "the preamble begins with 16 NUL bytes"
        self.greeted.set()
        await loop.sock_sendall(connection, self.noise)
        if self.mute:
            await loop.sock_recv(connection, 1)
            self.left.set()
            return False
        if self.kind == "hvsock":
            self.ports.append(int(found[1]))
        answer = b"OK " + (found[1] if self.kind == "serial" else b"49152") + b"\n"
        await loop.sock_sendall(connection, answer)
        return True

    # Scripts and steering

    def on_start(self, container_id: str, **script: Any) -> None:
        """What the container's init does when it is started; keywords of `Script`."""
        self._scripts[container_id, ""] = Script(**script)

    def on_exec(self, container_id: str, **script: Any) -> None:
        """What every later exec in the container does; keywords of `Script`."""
        self._scripts[container_id, "exec"] = Script(**script)

    def process(self, container_id: str, exec_id: str = "") -> FakeProcess:
        """The process by the ids that the protocol knows it by; GRPCError NOT_FOUND if there is none."""
        container = self.container(container_id)
        is_init = exec_id in {"", container.init.exec_id}
        process = container.init if is_init else container.execs.get(exec_id)
        if process is None or process.forgotten:
            raise GRPCError(Status.NOT_FOUND, f"no process {exec_id} in container {container_id}")
        return process

    def container(self, container_id: str) -> FakeContainer:
        """The container; GRPCError NOT_FOUND if there is none."""
        if container_id not in self.containers:
            raise GRPCError(Status.NOT_FOUND, f"no container {container_id}")
        return self.containers[container_id]

    def oom(self, container_id: str) -> None:
        """Tell of an OOM kill in the container."""
        self._ooms.put_nowait(container_id)

    # Calls

    def requests(self, rpc: str) -> list[Any]:
        """The requests of one RPC so far."""
        return [request for name, request in self.calls if name == rpc]

    async def called(self, rpc: str, count: int = 1) -> Any:
        """Wait until the RPC has been called `count` times; the last of these requests."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: len(self.requests(rpc)) >= count)
        return self.requests(rpc)[count - 1]

    # Faults

    def block(self, rpc: str, *, times: int | None = None) -> None:
        """Do not answer the RPC until `release`."""
        self._faults[rpc] = Fault(gate=asyncio.Event(), times=times)

    def delay(self, rpc: str, seconds: float, *, times: int | None = None) -> None:
        """Answer later."""
        self._faults[rpc] = Fault(delay=seconds, times=times)

    def fail(self, rpc: str, code: Status, message: str = "", *, times: int | None = None) -> None:
        """Answer with an error."""
        self._faults[rpc] = Fault(error=GRPCError(code, message), times=times)

    def answer(self, rpc: str, reply: Any, *, times: int | None = None) -> None:
        """Answer with `reply`, a message or a function that makes one of the request, in place of the truth."""
        self._faults[rpc] = Fault(answer=reply, times=times)

    def lose_answer(self, rpc: str, *, times: int | None = 1) -> None:
        """Do what is asked, and cut every connection in place of the answer."""
        self._faults[rpc] = Fault(loses_answer=True, times=times)

    def release(self, rpc: str | None = None) -> None:
        """Take back the faults of one RPC, or all; blocked calls go on."""
        for name in [rpc] if rpc else list(self._faults):
            fault = self._faults.pop(name, None)
            if fault and fault.gate:
                fault.gate.set()

    def _take_fault(self, rpc: str) -> Fault | None:
        fault = self._faults.get(rpc)
        if fault is None or fault.times == 0:
            return None
        if fault.times is not None:
            fault.times -= 1
        return fault

    async def _serve(self, rpc: str, method: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        """Every call comes through here: it is recorded, suffers its fault, and is answered."""
        self.calls.append((rpc, request))
        async with self._news:
            self._news.notify_all()
        fault = self._take_fault(rpc)
        if fault is not None:
            if fault.gate:
                await fault.gate.wait()
            await asyncio.sleep(fault.delay)
            if fault.error:
                raise fault.error
            if fault.answer is not None:
                return fault.answer(request) if callable(fault.answer) else fault.answer
        reply = await method(request)
        if fault is not None and fault.loses_answer:
            self.drop()
        return reply

    # What a process does

    def start(self, process: FakeProcess, kind: str) -> None:
        """Play the script for a process that starts, or fail as it says."""
        self._scripts.get((process.container_id, kind), Script()).run(process)

    def kill(self, processes: Iterable[FakeProcess], number: int) -> None:
        """Deliver a signal."""
        for process in processes:
            process.signals.append(number)
            if number not in process.ignores and number in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT}:
                process.exit(128 + number)

    async def next_oom(self) -> str:
        """Wait for `oom`."""
        return await self._ooms.get()


def _served(service: Any, serve: Callable[..., Awaitable[Any]]) -> Any:
    """`service` with each of its RPC methods behind `serve`."""
    for route, handler in service.__mapping__().items():
        name = handler.func.__name__.removeprefix("__rpc_")
        setattr(service, name, partial(serve, route.rpartition("/")[2], getattr(service, name)))
    return service
