"""Contract: our few frames of HTTP/2 and a real gRPC server understand each other; anything else is one line."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from protos.gen import wellknown
from protos.gen.cache import CacheServiceBase, GrpcVm, GrpcVmConfig
from sandbox.cache.calls import CallError, Connection

pytestmark = pytest.mark.anyio
METHODS = "/cache.CacheService"


class Service(CacheServiceBase):
    """Answers with a large configuration, and has one VM to give."""

    def __init__(self) -> None:
        self.vms = ["vm-1"]

    async def config(self, message: wellknown.Empty) -> GrpcVmConfig:
        return GrpcVmConfig(data=b"x" * 40000, agent_config=b"{}")

    async def get_base_vm(self, message: wellknown.Empty) -> GrpcVm:
        if not self.vms:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "no VM is ready")
        return GrpcVm(id=self.vms.pop(), cpu=2, memory=512)


@asynccontextmanager
async def serving(path: Path):
    server = Server([Service()])
    await server.start(path=str(path))
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


async def test_two_calls_over_one_connection_then_one_that_is_refused(tmp_path: Path):
    async with serving(tmp_path / "s"):
        connection = await Connection.open(tmp_path / "s")
        config = await connection.call(f"{METHODS}/Config", wellknown.Empty(), GrpcVmConfig)
        vm = await connection.call(f"{METHODS}/GetBaseVM", wellknown.Empty(), GrpcVm)
        with pytest.raises(CallError, match="GetBaseVM was refused"):
            await connection.call(f"{METHODS}/GetBaseVM", wellknown.Empty(), GrpcVm)
        connection.close()
    assert (len(config.data), config.agent_config) == (40000, b"{}")
    assert (vm.id, vm.cpu, vm.memory) == ("vm-1", 2, 512)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes(9) * 200,
        b"\x00\x00\x00\x07\x00\x00\x00\x00\x00",
        b"\x00\x00\x06\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x09x",
        b"\x00\x00\x06\x00\x01\x00\x00\x00\x01\x01\x00\x00\x00\x01x",
        b"\x00\x00\x06\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x01\x0a",
    ],
    ids=["hung-up", "http1", "endless", "goaway", "short", "compressed", "no-message"],
)
async def test_what_is_no_answer_is_an_error_in_one_line(tmp_path: Path, answer: bytes):
    async def misbehave(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answer or b"\0")

    listener = await anyio.create_unix_listener(tmp_path / "s")
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, misbehave)
        connection = await Connection.open(tmp_path / "s")
        with anyio.fail_after(10), pytest.raises(CallError) as caught:
            await connection.call(f"{METHODS}/Config", wellknown.Empty(), GrpcVmConfig)
        connection.close()
        group.cancel_scope.cancel()
    await listener.aclose()
    assert "\n" not in str(caught.value)


async def test_a_dead_servers_socket_refuses(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with pytest.raises(OSError):
        await Connection.open(tmp_path / "s")
