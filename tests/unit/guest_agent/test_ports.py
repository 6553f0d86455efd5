"""Connections to the guest's loopback: made by number, moved as the host asks, bounded, and gone when it hangs up."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import SimpleNamespace

import pytest

from guest.agent import ports
from guest.agent.errors import (
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from guest.agent.ports import Connections
from guest.agent.rpc_ports import PortsService
from protos.lean.gen.grpc import HangUpRequest, ReceiveRequest

pytestmark = pytest.mark.anyio


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(10)
        yield sock


@pytest.fixture
def connections():
    made = Connections()
    yield made
    for number in range(100):
        made.hang_up(number)


async def dialled(connections: Connections, listener: socket.socket, number: int = 1) -> socket.socket:
    await connections.dial(number, listener.getsockname()[1], prefers_ipv6=False)
    peer, _ = listener.accept()
    peer.settimeout(10)
    return peer


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, 10)


async def test_data_goes_both_ways_and_each_way_has_an_end(connections, listener):
    with await dialled(connections, listener) as peer:
        connection = connections.get(1)

        assert await connection.send(b"question", 0) == 8
        assert await connection.send(b"", 8) == 0
        assert (peer.recv(100), peer.recv(100)) == (b"question", b"")
        peer.sendall(b"answer")
        peer.shutdown(socket.SHUT_WR)

        assert [await soon(connection.receive(100, 0)), await soon(connection.receive(100, 6))] == [b"answer", b""]


async def test_what_did_not_arrive_is_given_again_and_what_was_taken_is_taken_once(connections, listener):
    with await dialled(connections, listener) as peer:
        connection = connections.get(1)
        peer.sendall(b"answer")

        first, again = await soon(connection.receive(3, 0)), await soon(connection.receive(3, 0))
        await connection.send(b"abc", 0)
        await connection.send(b"abc", 0)
        await connection.send(b"d", 3)

        assert (first, again) == (b"ans", b"ans")
        await connection.send(b"", 4)
        assert peer.recv(5, socket.MSG_WAITALL) == b"abcd"


async def test_to_dial_a_number_again_changes_nothing(connections, listener):
    with await dialled(connections, listener):
        before = connections.get(1)
        await connections.dial(1, listener.getsockname()[1], prefers_ipv6=False)

        assert connections.get(1) is before


async def test_the_other_family_is_tried_and_the_first_one_s_reason_told(connections, listener):
    port = listener.getsockname()[1]
    await connections.dial(1, port, prefers_ipv6=True)
    listener.close()

    with pytest.raises(FailedPreconditionError, match=f"port {port} of the pod: Connection refused"):
        await connections.dial(2, port, prefers_ipv6=False)
    with pytest.raises(InvalidArgumentError, match="70000 is no port"):
        await connections.dial(2, 70000, prefers_ipv6=False)


async def test_there_is_a_bound(connections, listener, monkeypatch):
    monkeypatch.setattr(ports, "MAX_CONNECTIONS", 1)
    with await dialled(connections, listener):
        with pytest.raises(ResourceExhaustedError):
            await connections.dial(2, listener.getsockname()[1], prefers_ipv6=False)
        connections.hang_up(1)
        await connections.dial(2, listener.getsockname()[1], prefers_ipv6=False)


async def test_a_reset_is_an_error_and_not_an_end(connections, listener):
    peer = await dialled(connections, listener)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()

    with pytest.raises(InternalError, match="Connection reset"):
        await soon(connections.get(1).receive(100, 0))


async def test_hanging_up_ends_who_waits_and_the_other_end(connections, listener):
    with await dialled(connections, listener) as peer:
        waiting = asyncio.create_task(connections.get(1).receive(100, 0))
        await asyncio.sleep(0)

        connections.hang_up(1)
        connections.hang_up(1)

        assert (await soon(waiting), peer.recv(1)) == (b"", b"")
    with pytest.raises(NotFoundError, match="no connection 1"):
        connections.get(1)


async def test_the_service_refuses_what_would_look_like_the_end():
    service = PortsService(SimpleNamespace(policy=None))

    with pytest.raises(InvalidArgumentError):
        await service.receive(ReceiveRequest(connection=1, len=0))
    with pytest.raises(NotFoundError):
        await service.receive(ReceiveRequest(connection=1, len=1))
    await service.hang_up(HangUpRequest(connection=1))
