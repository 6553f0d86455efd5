"""Port-forward between a socket of the host and the guest's own service, over a real connection to it."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from contextlib import asynccontextmanager
from types import SimpleNamespace

import anyio
import anyio.to_thread
import pytest

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from guest.agent.rpc_ports import PortsService
from guest.agent.service import HealthService
from protos.codec import MessageCodec
from protos.gen import grpc as pb
from protos.gen import wellknown
from sandbox.network import forwarding
from ttrpc.server import Server

pytestmark = pytest.mark.anyio

SIZE = 3 << 20
RESET = struct.pack("ii", 1, 0)


@asynccontextmanager
async def serving(tmp_path, ports):
    """A client of a guest's service, which is in this process."""
    async with Server([ports, HealthService()], MessageCodec()) as server:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "agent"))
        await server.listen(sock)
        client = await AgentClient.connect(f"unix://{tmp_path}/agent", timeout=10)
        yield client
        client.close()


@pytest.fixture
async def agent(tmp_path):
    """A client of the guest's own service."""
    async with serving(tmp_path, PortsService(SimpleNamespace(policy=None))) as client:
        yield client


@pytest.fixture
def application():
    """What listens in the pod."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(20)
        yield sock


@asynccontextmanager
async def forwarded(agent, port):
    """A client's socket that is being forwarded to `port`; the body's end waits for the end of that."""
    # An accepted socket has the port that was asked for: so the door is that port of another address.
    with socket.create_server(("127.0.0.2", port)) as door, socket.socket() as client:
        client.settimeout(20)
        client.connect(("127.0.0.2", port))
        accepted, _ = door.accept()
        accepted.setblocking(False)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(forwarding.connect, accepted, agent)
                yield client


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def echo(application: socket.socket) -> None:
    stream, _ = application.accept()
    with stream:
        while data := stream.recv(1 << 16):
            stream.sendall(data)


def exchange(client: socket.socket, data: bytes) -> str:
    digest, rest = hashlib.sha256(), len(data)
    sent = 0
    while rest:
        if sent < len(data):
            piece = data[sent : sent + (1 << 16)]
            client.sendall(piece)
            sent += len(piece)
            if sent == len(data):
                client.shutdown(socket.SHUT_WR)
        got = client.recv(1 << 16)
        digest.update(got)
        rest -= len(got)
    assert client.recv(1) == b""
    return digest.hexdigest()


async def in_thread(function, *arguments):
    return await anyio.to_thread.run_sync(function, *arguments)


async def test_all_of_both_directions_arrives_with_its_end(agent, application):
    data = os.urandom(SIZE)
    async with forwarded(agent, application.getsockname()[1]) as client, anyio.create_task_group() as group:
        group.start_soon(in_thread, echo, application)

        assert await in_thread(exchange, client, data) == hashlib.sha256(data).hexdigest()


async def test_a_port_that_nobody_listens_on_resets_the_client(agent, application):
    port = application.getsockname()[1]
    application.close()
    async with forwarded(agent, port) as client:
        with pytest.raises(ConnectionResetError):
            await in_thread(client.recv, 1)


@pytest.mark.parametrize("broken", ["client", "application"])
async def test_a_reset_on_one_side_is_one_on_the_other(agent, application, broken):
    async with forwarded(agent, application.getsockname()[1]) as client:
        stream, _ = await in_thread(application.accept)
        stream.settimeout(20)
        first, second = (client, stream) if broken == "client" else (stream, client)
        second.sendall(b"x")
        assert await in_thread(first.recv, 1) == b"x"
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        first.close()
        with second:
            # The guest's end is hung up, which the application sees as an end or a reset; a client always as a reset.
            try:
                assert await in_thread(second.recv, 1) == b""
            except ConnectionResetError:
                return
        assert broken == "client"


async def test_a_half_that_stays_idle_after_the_other_has_ended_is_given_up(agent, application, monkeypatch):
    monkeypatch.setattr(forwarding, "HALF_CLOSED", 0.05)
    async with forwarded(agent, application.getsockname()[1]) as client:
        stream, _ = await in_thread(application.accept)
        with stream:
            client.shutdown(socket.SHUT_WR)

            with pytest.raises(ConnectionResetError):
                await in_thread(client.recv, 1)


class LyingPorts(pb.PortsBase):
    """Sends more than it was asked for, and takes more than there is."""

    async def dial(self, message: pb.DialRequest) -> wellknown.Empty:
        return wellknown.Empty()

    async def receive(self, message: pb.ReceiveRequest) -> pb.ReadStreamResponse:
        return pb.ReadStreamResponse(data=bytes(message.len + 1))

    async def send(self, message: pb.SendRequest) -> pb.WriteStreamResponse:
        return pb.WriteStreamResponse(len=len(message.data) + 1)


async def test_a_guest_that_lies_about_lengths_is_not_believed(tmp_path):
    async with serving(tmp_path, LyingPorts()) as agent:
        with pytest.raises(AgentError, match="101 bytes where at most 100 were asked for"):
            await agent.ports.receive(1, 100, 0)
        with pytest.raises(AgentError, match="3 bytes taken of 2"):
            await agent.ports.send(1, b"xx", 0)
        async with forwarded(agent, unused_port()) as client:
            with pytest.raises(ConnectionResetError):
                await in_thread(client.recv, 1)


async def test_a_host_that_can_not_steer_goes_on_without(agent, monkeypatch, caplog):
    def refuse(namespace):
        raise PermissionError(1, "bpf: Operation not permitted")

    monkeypatch.setattr(forwarding, "listen", refuse)

    await forwarding.forward(-1, agent)

    assert "port-forward will not reach into the pod: [Errno 1] bpf: Operation not permitted" in caplog.text


async def test_the_listener_is_closed_and_connections_are_reset_when_the_pod_ends(agent, application, monkeypatch):
    door = socket.create_server(("127.0.0.2", application.getsockname()[1]))
    door.setblocking(False)
    closed = []
    listener = SimpleNamespace(socket=door, close=lambda: closed.append(door.close()))
    monkeypatch.setattr(forwarding, "listen", lambda namespace: listener)
    monkeypatch.setattr(forwarding, "MAX_CONNECTIONS", 1)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(forwarding.forward, -1, agent)
            client = await in_thread(socket.create_connection, door.getsockname())
            client.settimeout(20)
            stream, _ = await in_thread(application.accept)
            group.cancel_scope.cancel()

    with client, stream, pytest.raises(ConnectionResetError):
        await in_thread(client.recv, 1)
    assert closed == [None]
