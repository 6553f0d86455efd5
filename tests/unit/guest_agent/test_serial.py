"""Sessions over a port: ttrpc over a socket pair that plays the virtio-serial port."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from contextlib import asynccontextmanager

import pytest
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError

from guest.agent import serial
from guest.agent.preamble import LENGTH, PREFIX, answer
from guest.agent.serial import SerialProtocol
from guest.agent.service import HealthService
from protos.codec import MessageCodec
from protos.lean.gen.grpc import CheckRequest, HealthBase, HealthCheckResponse
from ttrpc.client import Channel
from ttrpc.fdtransport import FdTransport
from ttrpc.server import Server

pytestmark = pytest.mark.anyio


class Stuck(HealthBase):
    """A health service that never answers."""

    async def check(self, message):
        await asyncio.Event().wait()


@asynccontextmanager
async def port(service=None):
    """A port that is served; yields the host's socket and the protocol."""
    guest, host = socket.socketpair()
    host.setblocking(False)
    async with Server([service or HealthService()], MessageCodec(), require_same_user=False) as server:
        protocol = SerialProtocol(server.protocol)
        transport = FdTransport(asyncio.get_running_loop(), guest.detach(), protocol)
        with host:
            yield host, protocol
        transport.abort()


def preamble(nonce: str) -> bytes:
    return PREFIX + nonce.encode() + b"\n"


async def shake(host: socket.socket, before: bytes = b"") -> None:
    """Open a session as the host does: everything before our own OK line is thrown away."""
    loop = asyncio.get_running_loop()
    nonce = os.urandom(16).hex()
    await loop.sock_sendall(host, before + preamble(nonce))
    expected, received = f"OK {nonce}\n".encode(), b""
    while not received.endswith(expected):
        data = await asyncio.wait_for(loop.sock_recv(host, 1 << 16), 10)
        assert data, "the port was closed"
        received += data


async def check(channel: Channel, timeout: float = 10) -> HealthCheckResponse:
    request = channel.request(
        "/grpc.Health/Check", Cardinality.UNARY_UNARY, CheckRequest, HealthCheckResponse, timeout=timeout
    )
    async with request as stream:
        await stream.send_message(CheckRequest(), end=True)
        return await stream.recv_message()


async def channel_over(host: socket.socket) -> Channel:
    return await Channel.over_fd(os.dup(host.fileno()), MessageCodec())


async def test_a_session_opens_with_the_handshake_and_serves():
    async with port() as (host, _):
        await shake(host)
        channel = await channel_over(host)

        assert (await check(channel)).status == 1
        channel.close()


async def test_what_a_former_host_left_in_the_port_is_discarded():
    async with port() as (host, _):
        await shake(host, before=b"\0\0\0\x20\0\0\0\1half a frame" + preamble("a" * 31 + "x"))
        channel = await channel_over(host)

        assert (await check(channel)).status == 1
        channel.close()


async def test_nothing_is_served_before_the_handshake():
    async with port() as (host, protocol):
        channel = await channel_over(host)

        with pytest.raises((GRPCError, TimeoutError)):
            await check(channel, timeout=0.05)

        assert protocol._session is None
        channel.close()


async def test_a_new_host_between_frames_begins_a_new_session():
    async with port() as (host, _):
        await shake(host)
        first = await channel_over(host)
        await check(first)
        first.close()
        await first.wait_closed()

        await shake(host)
        second = await channel_over(host)

        assert (await check(second)).status == 1
        second.close()


async def test_a_new_host_in_the_middle_of_a_frame_begins_a_new_session(monkeypatch):
    monkeypatch.setattr(serial, "STALL_SECONDS", 0.01)
    async with port() as (host, _):
        await shake(host)

        await shake(host, before=(100_000).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\1\0" + b"half")
        channel = await channel_over(host)

        assert (await check(channel)).status == 1
        channel.close()


async def test_calls_of_the_old_session_are_dropped_with_it():
    async with port(Stuck()) as (host, protocol):
        await shake(host)
        frame = await stuck_call(host)
        first = protocol._session
        async with asyncio.timeout(10):
            while not first.tasks:
                await asyncio.sleep(0)

        await shake(host)

        assert frame
        assert first.is_closed or not first.tasks
        assert protocol._session is not first


async def stuck_call(host: socket.socket) -> bytes:
    """Send a request by hand, so that no client takes part in its end."""
    service, method = b"grpc.Health", b"Check"
    body = b"\x0a" + bytes([len(service)]) + service + b"\x12" + bytes([len(method)]) + method
    frame = len(body).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\1\0" + body
    await asyncio.get_running_loop().sock_sendall(host, frame)
    return frame


async def test_the_end_of_the_stream_closes_the_port_whatever_is_still_to_be_sent():
    async with port() as (host, protocol):
        await shake(host)
        host.shutdown(socket.SHUT_WR)

        await asyncio.wait_for(protocol.closed, 10)


async def test_a_host_that_goes_while_it_reads_nothing_is_noticed(monkeypatch):
    monkeypatch.setattr(serial, "GONE_CHECK_SECONDS", 0.001)
    gone = []
    protocol = SerialProtocol(asyncio.Protocol, lambda: bool(gone))
    guest, host = socket.socketpair()
    FdTransport(asyncio.get_running_loop(), guest.detach(), protocol)
    await asyncio.sleep(0)
    protocol.pause_writing()

    gone.append(True)

    await asyncio.wait_for(protocol.closed, 10)
    host.close()


def test_the_port_is_found_by_its_name(tmp_path):
    assert serial.port_device(str(tmp_path), "kata.agent.0") == ""
    for device, name in (("vport0p0", "other"), ("vport0p1", "kata.agent.0")):
        (tmp_path / f"class/virtio-ports/{device}").mkdir(parents=True)
        (tmp_path / f"class/virtio-ports/{device}/name").write_text(f"{name}\n")

    assert serial.port_device(str(tmp_path), "kata.agent.0") == "vport0p1"


async def test_a_port_that_comes_late_is_waited_for(tmp_path):
    task = asyncio.create_task(serial.find_port(str(tmp_path / "sys"), str(tmp_path / "dev")))
    await asyncio.sleep(0)
    assert not task.done()

    (tmp_path / "sys/class/virtio-ports/vport0p1").mkdir(parents=True)
    (tmp_path / "sys/class/virtio-ports/vport0p1/name").write_text("kata.agent.0")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/vport0p1").touch()

    assert await asyncio.wait_for(task, 10) == str(tmp_path / "dev/vport0p1")


async def test_somebody_at_the_other_end_is_noticed_and_nobody_too():
    reader, writer = os.pipe()
    assert not serial.is_gone(reader)
    await asyncio.wait_for(serial.host_present(writer), 10)

    os.close(writer)

    assert serial.is_gone(reader)
    os.close(reader)


async def test_a_host_that_comes_is_waited_for_without_spinning(monkeypatch):
    guest, host = socket.socketpair()
    states = iter([True, False])
    monkeypatch.setattr(serial, "is_gone", lambda fd: next(states))

    waiting = asyncio.create_task(serial.host_present(guest.fileno()))
    await asyncio.wait_for(waiting, 10)

    assert select.select([guest], [], [], 0)[0] == []
    guest.close()
    host.close()


async def test_a_host_that_comes_as_the_last_one_goes_is_heard():
    # A packet of no bytes reads as an end that is not for ever, as at a port whose host has gone.
    guest, host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    serving = asyncio.create_task(serial.serve_port(guest.fileno(), asyncio.Protocol))
    answers = []

    for nonce in ("1" * 32, "2" * 32):
        host.sendall(preamble(nonce))
        answers.append(await asyncio.wait_for(asyncio.to_thread(host.recv, 100), 10))
        host.send(b"")

    assert answers == [answer(b"1" * 32), answer(b"2" * 32)]
    assert not serving.done()
    serving.cancel()
    guest.close()
    host.close()


async def test_a_port_that_fails_is_told(monkeypatch):
    async def at_once(fd: int) -> None:
        """Somebody is there."""

    monkeypatch.setattr(serial, "host_present", at_once)
    master, slave = os.openpty()
    os.close(slave)

    with pytest.raises(OSError, match="Input/output error"):
        await asyncio.wait_for(serial.serve_port(master, asyncio.Protocol), 10)

    os.close(master)


def test_the_preamble_has_its_documented_length():
    assert len(preamble("0" * 32)) == LENGTH
