"""The transport over a file descriptor: pseudo-terminals, pipes and sockets stand in for a virtio-serial port."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import socket
import tty
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.ttrpc.support import PATIENCE, UU, Methods, NoteCodec, call, echo_service, until
from ttrpc.client import Channel
from ttrpc.fdtransport import FdTransport
from ttrpc.piped import PipedMessage
from ttrpc.server import Server

pytestmark = pytest.mark.anyio


class Recorder(asyncio.Protocol):
    """Notes what the transport tells it."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.data = b""
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.events.append("eof")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(exc)
        self.lost.set()


def attach(fd: int) -> tuple[FdTransport, Recorder]:
    recorder = Recorder()
    return FdTransport(asyncio.get_running_loop(), fd, recorder), recorder


async def lost(recorder: Recorder) -> None:
    async with asyncio.timeout(PATIENCE):
        await recorder.lost.wait()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def pair() -> Iterator[tuple[int, socket.socket]]:
    """A descriptor for the transport, and its other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    with theirs:
        yield ours.detach(), theirs


async def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        while len(data) < size:
            data += await loop.sock_recv(sock, 1 << 16)
    return data


async def test_data_goes_both_ways_over_a_character_device() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    transport, recorder = attach(slave)

    os.write(master, b"in")
    await until(lambda: recorder.data == b"in")
    transport.write(b"out")

    assert os.read(master, 10) == b"out"
    transport.close()
    await lost(recorder)
    assert recorder.events == ["made", None]
    os.close(master)


async def test_calls_go_over_a_character_device() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    async with asyncio.timeout(PATIENCE), Server([echo_service()], NoteCodec()) as server:
        connection = server.protocol()
        FdTransport(asyncio.get_running_loop(), slave, connection)
        channel = await Channel.over_fd(master, NoteCodec())

        texts = [str(number) * 1000 for number in range(100)]
        assert await asyncio.gather(*(call(channel, "Echo", text) for text in texts)) == texts

        channel.close()
        await channel.wait_closed()
        await connection.wait_closed()
    assert connection.peer is None


async def test_a_hangup_of_a_character_device_loses_the_connection() -> None:
    master, slave = pty.openpty()
    transport, recorder = attach(master)
    await until(transport.is_reading)

    os.close(slave)
    await lost(recorder)

    assert isinstance(recorder.events[-1], OSError)
    assert transport.is_closing()
    assert not is_open(master)


async def test_the_end_of_the_stream_closes(pair: tuple[int, socket.socket]) -> None:
    fd, theirs = pair
    _, recorder = attach(fd)

    theirs.sendall(b"last")
    theirs.shutdown(socket.SHUT_RDWR)
    await lost(recorder)

    assert recorder.data == b"last"
    assert recorder.events == ["made", "eof", None]
    assert not is_open(fd)


async def test_writing_to_a_peer_that_has_gone_loses_the_connection_once(pair: tuple[int, socket.socket]) -> None:
    fd, theirs = pair
    transport, recorder = attach(fd)
    await until(transport.is_reading)
    transport.pause_reading()
    theirs.close()

    transport.write(b"x")
    transport.write(b"y")
    transport.abort()
    await lost(recorder)

    assert [type(event) for event in recorder.events] == [str, BrokenPipeError]


async def test_a_peer_that_goes_while_data_waits_loses_the_connection(pair: tuple[int, socket.socket]) -> None:
    fd, theirs = pair
    transport, recorder = attach(fd)
    await until(transport.is_reading)
    transport.pause_reading()
    transport.write(bytes(1 << 22))

    theirs.close()
    await lost(recorder)

    assert isinstance(recorder.events[-1], OSError)
    assert transport.get_write_buffer_size() == 0


async def test_a_slow_reader_pauses_the_protocol_and_gets_everything(pair: tuple[int, socket.socket]) -> None:
    fd, theirs = pair
    transport, recorder = attach(fd)
    data = os.urandom(1 << 20)

    transport.write(data[:1000])
    transport.write(memoryview(data)[1000:500_000])
    transport.write(bytearray(data[500_000:]))
    assert recorder.events[-1] == "pause"
    assert await read_exactly(theirs, len(data)) == data

    await until(lambda: transport.get_write_buffer_size() == 0)
    assert recorder.events == ["pause", "made", "resume"]
    transport.close()
    await lost(recorder)


async def test_close_sends_what_is_buffered_first(pair: tuple[int, socket.socket]) -> None:
    fd, theirs = pair
    transport, recorder = attach(fd)
    await until(transport.is_reading)
    transport.write(bytes(1 << 20))

    transport.close()
    transport.close()
    transport.write(b"too late")
    theirs.sendall(b"ignored")

    assert len(await read_exactly(theirs, 1 << 20)) == 1 << 20
    await lost(recorder)
    assert (recorder.data, recorder.events[-1]) == (b"", None)
    assert not is_open(fd)


async def test_abort_drops_what_is_buffered(pair: tuple[int, socket.socket]) -> None:
    fd, _ = pair
    transport, recorder = attach(fd)
    transport.write(bytes(1 << 20))

    transport.abort()
    transport.abort()

    assert not is_open(fd)
    await lost(recorder)
    assert recorder.events == ["pause", "made", None]


async def test_reading_can_be_paused(pair: tuple[int, socket.socket]) -> None:
    fd, theirs = pair
    transport, recorder = attach(fd)
    await until(transport.is_reading)

    transport.pause_reading()
    transport.pause_reading()
    theirs.sendall(b"x")
    for _ in range(10):
        await asyncio.sleep(0)
    assert (recorder.data, transport.is_reading()) == (b"", False)

    transport.resume_reading()
    transport.resume_reading()
    await until(lambda: recorder.data == b"x")
    transport.close()
    transport.resume_reading()
    assert not transport.is_reading()
    await lost(recorder)


async def test_a_spurious_wake_up_is_nothing(pair: tuple[int, socket.socket]) -> None:
    fd, _ = pair
    transport, recorder = attach(fd)
    await until(transport.is_reading)

    transport._read_ready()
    while True:
        try:
            os.write(fd, bytes(1 << 16))
        except BlockingIOError:
            break
    transport.write(bytes(1 << 20))
    waiting = transport.get_write_buffer_size()
    transport._write_ready()

    assert transport.get_write_buffer_size() == waiting == 1 << 20
    assert recorder.events == ["made", "pause"]
    transport.abort()
    await lost(recorder)


async def test_limits_of_the_write_buffer_can_be_set(pair: tuple[int, socket.socket]) -> None:
    fd, _ = pair
    transport, recorder = attach(fd)

    assert transport.get_write_buffer_limits() == (16384, 65536)
    transport.set_write_buffer_limits(high=8)
    assert transport.get_write_buffer_limits() == (2, 8)
    transport.set_write_buffer_limits(high=8, low=0)
    assert transport.get_write_buffer_limits() == (0, 8)
    transport.set_write_buffer_limits()
    with pytest.raises(ValueError, match="low 9 must be from 0 to high 8"):
        transport.set_write_buffer_limits(high=8, low=9)
    transport.abort()
    await lost(recorder)


async def test_the_protocol_can_be_changed(pair: tuple[int, socket.socket]) -> None:
    fd, theirs = pair
    transport, first = attach(fd)
    await until(transport.is_reading)
    second = Recorder()

    transport.set_protocol(second)
    theirs.sendall(b"x")
    await until(lambda: second.data == b"x")

    assert (transport.get_protocol(), first.data, transport.can_write_eof()) == (second, b"", False)
    transport.close()
    await lost(second)


async def test_extra_information_is_handed_on(pair: tuple[int, socket.socket]) -> None:
    fd, _ = pair
    recorder = Recorder()
    transport = FdTransport(asyncio.get_running_loop(), fd, recorder, {"peername": "agent"})

    transport.close()
    await lost(recorder)

    assert (transport.get_extra_info("peername"), transport.get_extra_info("socket")) == ("agent", None)
    assert recorder.events == ["made", None]


def full_pipe(data: bytes) -> int:
    """The reading end of a pipe that holds `data`, and no more is to come."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, len(data))
    os.write(writer, data)
    os.close(writer)
    os.set_blocking(reader, False)
    return reader


async def test_what_is_in_a_pipe_is_sent_behind_its_head_however_slowly_it_is_read(pair: tuple[int, socket.socket]):
    fd, theirs = pair
    data = os.urandom(1 << 20)
    transport, _ = attach(fd)
    reader = full_pipe(data)

    transport.write_piped(b"head", reader, len(data))
    assert transport.get_write_buffer_size() > 0
    transport.write(b"after")
    received = b""
    while len(received) < len(data) + 9:
        received += await asyncio.to_thread(theirs.recv, 1 << 16)

    assert received == b"head" + data + b"after"
    os.close(reader)
    transport.abort()


async def test_a_pipe_that_holds_less_than_was_promised_ends_the_transport(pair: tuple[int, socket.socket]):
    fd, _ = pair
    transport, recorder = attach(fd)
    reader = full_pipe(b"x" * 4096)

    transport.write_piped(b"head", reader, 5000)
    await lost(recorder)

    assert "the pipe has lost" in str(recorder.events[-1])
    os.close(reader)


@pytest.mark.parametrize("over_fd", [True, False])
async def test_a_message_in_a_pipe_is_answered_over_any_transport(over_fd: bool):
    data = b"y" * 500_000
    # NoteCodec's messages are their text.
    message = PipedMessage(b"", full_pipe(data), len(data))
    ours, theirs = socket.socketpair()

    async def answer(stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(message)

    async with Server([Methods(Echo=(UU, answer))], NoteCodec(), require_same_user=False) as server:
        if over_fd:
            FdTransport(asyncio.get_running_loop(), ours.detach(), server.protocol())
        else:
            await asyncio.get_running_loop().connect_accepted_socket(server.protocol, ours)
        channel = await Channel.over_socket(theirs, NoteCodec())

        assert await call(channel, "Echo") == data.decode()

        assert message.fd == -1
        channel.close()
