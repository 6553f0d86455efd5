"""The channel: deadlines, limits, slow and faulty servers, and lost connections."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.unit.ttrpc.support import (
    PATIENCE,
    SS,
    Note,
    NoteCodec,
    call,
    connected,
    failure,
    open_call,
    raw_server,
    respond,
    serving,
    until,
)
from ttrpc.client import Channel
from ttrpc.deadline import Deadline
from ttrpc.envelope import RpcStatus, decode_request, encode_error, encode_response
from ttrpc.frame import (
    DATA,
    HEADER,
    MESSAGE_MAX,
    RESPONSE,
    encode_frame,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("limit", [lambda: {"timeout": 0.02}, lambda: {"deadline": Deadline.from_timeout(0.02)}])
async def test_a_deadline_ends_the_call_here_whatever_the_server_does(limit: Any) -> None:
    started = time.monotonic()
    async with raw_server() as (channel, peer):
        expected = (Status.DEADLINE_EXCEEDED, "context deadline exceeded")
        assert await failure(call(channel, "Hang", **limit())) == expected
        assert time.monotonic() - started < PATIENCE

        async with asyncio.TaskGroup() as group:
            task = group.create_task(call(channel, "Echo"))
            method = ""
            while method != "Echo":
                frame = await peer.frame()
                method = decode_request(frame.payload).method
                respond(peer, frame.stream_id, f"the answer to {method}")
        assert task.result() == "the answer to Echo"


async def test_a_deadline_that_has_passed_sends_nothing() -> None:
    async with raw_server() as (channel, peer):
        assert (await failure(call(channel, "Echo", timeout=0)))[0] is Status.DEADLINE_EXCEEDED
        channel.close()
        with pytest.raises(EOFError):
            await peer.frame()


async def test_a_deadline_ends_a_stream_before_what_has_arrived_is_read() -> None:
    async with raw_server() as (channel, peer), open_call(channel, SS, timeout=0.05) as stream:
        await stream.send_request()
        peer.send(encode_frame(1, DATA, 0, b"x"))
        await until(lambda: stream.inbox.ended)

        assert (await failure(stream.recv_message()))[0] is Status.DEADLINE_EXCEEDED
        assert (await failure(stream.send_message(Note("more"))))[0] is Status.DEADLINE_EXCEEDED


async def test_an_oversized_request_fails_here_and_the_connection_is_kept(socket_path: Path) -> None:
    async with serving(socket_path), connected(socket_path) as channel:
        status, message = await failure(call(channel, "Echo", "x" * MESSAGE_MAX))
        assert (status, str(message).partition(" exceed ")[2]) == (
            Status.RESOURCE_EXHAUSTED,
            "maximum message size of 4194304",
        )
        async with open_call(channel, SS) as stream:
            await stream.send_request()
            assert (await failure(stream.send_message(Note("x" * (MESSAGE_MAX + 1)))))[0] is (Status.RESOURCE_EXHAUSTED)

        largest = "x" * (MESSAGE_MAX - 100)
        assert await call(channel, "Echo", largest) == largest


@pytest.mark.parametrize(
    ("frame", "status", "message"),
    [
        (
            HEADER.pack(5 << 20, 1, RESPONSE, 0) + bytes(5 << 20),
            Status.RESOURCE_EXHAUSTED,
            "message length 5242880 exceed maximum message size of 4194304",
        ),
        (
            encode_frame(1, RESPONSE, 0, b"\x12\x05"),
            Status.INTERNAL,
            "ttrpc: error unmarshalling response: field 2 of 5 bytes is cut off after 0",
        ),
        (
            encode_frame(1, RESPONSE, 0, encode_response(b"\xff")),
            Status.INTERNAL,
            "ttrpc: error unmarshalling payload: not a note",
        ),
        (
            encode_frame(1, DATA, 0, b""),
            Status.INTERNAL,
            "ttrpc: the server sent data on a call that has a single response",
        ),
        (
            encode_frame(1, RESPONSE, 0, encode_error(RpcStatus(77, "odd"))),
            Status.UNKNOWN,
            "code 77: odd",
        ),
    ],
)
async def test_a_faulty_response_fails_its_call_and_the_connection_is_kept(
    frame: bytes, status: Status, message: str
) -> None:
    async with raw_server() as (channel, peer):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(failure(call(channel, "Echo")))
            await peer.frame()
            peer.send(frame)
        assert task.result() == (status, message)

        async with asyncio.TaskGroup() as group:
            after = group.create_task(call(channel, "Echo"))
            await peer.frame()
            respond(peer, 3, "fine")
        assert after.result() == "fine"


@pytest.mark.parametrize(
    ("last", "cause"),
    [(b"", "end of file"), (HEADER.pack(10, 1, RESPONSE, 0), "end of file in the middle of a frame")],
)
async def test_a_lost_connection_fails_every_call_with_its_cause(last: bytes, cause: str) -> None:
    errors: list[GRPCError] = []
    async with raw_server() as (channel, peer):
        channel.on_close(errors.append)
        async with asyncio.TaskGroup() as group:
            unary = group.create_task(failure(call(channel, "Wait")))
            stream = open_call(channel, SS)
            await stream.send_request()
            received = group.create_task(failure(stream.recv_message()))
            await peer.frame()
            await peer.frame()
            peer.send(last)
            await peer.close()

        expected = (Status.UNAVAILABLE, f"ttrpc: closed: {cause}")
        assert [unary.result(), received.result()] == [expected, expected]
        assert await failure(stream.send_message(Note("x"))) == expected
        await stream.end()
        assert 3 not in channel._connection.streams
        assert await failure(call(channel, "Echo")) == expected
        await channel.wait_closed()
        assert channel.closed
        assert [(error.status, error.message) for error in errors] == [expected]
        channel.on_close(errors.append)
        await until(lambda: len(errors) == 2)


async def test_closing_fails_the_calls_that_are_open(socket_path: Path) -> None:
    async with serving(socket_path), connected(socket_path) as channel:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(failure(call(channel, "Hang")))
            await until(lambda: bool(channel._connection.calls))
            assert not channel.closed
            channel.close()
            channel.close()
            assert channel.closed
            assert (await failure(call(channel, "Echo")))[1] == "ttrpc: closed: by this side"

        assert task.result() == (Status.UNAVAILABLE, "ttrpc: closed: by this side")


async def test_a_close_does_not_wait_for_a_server_that_reads_nothing() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.over_socket(ours, NoteCodec())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(failure(call(channel, "Echo", "x" * (1 << 20))))
        await until(lambda: channel._connection.write_paused)

        channel.close()
        async with asyncio.timeout(PATIENCE):
            await channel.wait_closed()

    assert task.result()[0] is Status.UNAVAILABLE
    theirs.close()


async def test_a_slow_server_holds_back_its_callers_until_their_deadline() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.over_socket(ours, NoteCodec())
    stream = open_call(channel, SS, timeout=0.3)

    assert (await failure(send_many(stream, 1000)))[0] is Status.DEADLINE_EXCEEDED
    assert (await failure(call(channel, "Echo", timeout=0.02)))[0] is Status.DEADLINE_EXCEEDED
    async with asyncio.TaskGroup() as group:
        task = group.create_task(failure(call(channel, "Echo")))
        await until(lambda: bool(channel._connection._drain_waiters))
        theirs.close()
    assert task.result()[0] is Status.UNAVAILABLE
    await channel.wait_closed()


async def test_a_caller_that_is_cancelled_as_the_server_catches_up_harms_nobody() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.over_socket(ours, NoteCodec())
    async with asyncio.TaskGroup() as group:
        first = group.create_task(failure(call(channel, "Echo", "x" * (1 << 20))))
        await until(lambda: channel._connection.write_paused)
        second = group.create_task(call(channel, "Echo"))
        await until(lambda: bool(channel._connection._drain_waiters))
        second.cancel()
        channel._connection.resume_writing()
        theirs.close()

    assert second.cancelled()
    assert first.result()[0] is Status.UNAVAILABLE


async def test_callers_go_on_when_a_slow_server_has_caught_up(socket_path: Path) -> None:
    async with raw_server() as (channel, peer), open_call(channel, SS) as stream, asyncio.TaskGroup() as group:
        group.create_task(send_many(stream, 40))
        await until(lambda: channel._connection.write_paused)
        await peer.frame()
        sizes = [len((await peer.frame()).payload) for _ in range(40)]

    assert sizes == [1 << 18] * 40


async def test_a_stream_that_nobody_reads_does_not_stop_other_calls_for_long() -> None:
    async with raw_server() as (channel, peer), open_call(channel, SS) as stuck:
        await stuck.send_request()
        await peer.frame()
        for _ in range(200):
            peer.send(encode_frame(1, DATA, 0, bytes(100_000)))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(call(channel, "Echo", timeout=PATIENCE))
            await peer.frame()
            respond(peer, 3, "fine")

        assert task.result() == "fine"
        assert await failure(stuck.recv_message()) == (Status.RESOURCE_EXHAUSTED, "stream buffer full")


async def test_a_socket_that_is_not_there_is_named(socket_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(socket_path)):
        await Channel.connect_unix(socket_path, NoteCodec(), timeout=PATIENCE)


async def test_a_socket_that_nobody_serves_is_named(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(socket_path))
        with pytest.raises(ConnectionRefusedError, match=str(socket_path)):
            await Channel.connect_unix(socket_path, NoteCodec(), timeout=PATIENCE)


async def test_connecting_takes_no_longer_than_allowed(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*args: Any, **options: Any) -> None:
        await asyncio.Event().wait()

    class Loop:
        create_unix_connection = staticmethod(never)

    monkeypatch.setattr("ttrpc.client.asyncio.get_running_loop", Loop)
    with pytest.raises(TimeoutError, match=f"connect to {socket_path}: no answer in 0.01 s"):
        await Channel.connect_unix(socket_path, NoteCodec(), timeout=0.01)


async def test_a_descriptor_that_is_closed_by_the_other_side_loses_the_channel() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.over_fd(ours.detach(), NoteCodec())
    theirs.close()

    async with asyncio.timeout(PATIENCE):
        await channel.wait_closed()

    assert await failure(call(channel, "Echo")) == (Status.UNAVAILABLE, "ttrpc: closed: end of file")


async def test_the_error_of_the_transport_is_the_cause() -> None:
    async with raw_server() as (channel, _):
        channel._connection.connection_lost(ConnectionResetError(104, "Connection reset by peer"))

        assert (await failure(call(channel, "Echo")))[1] == "ttrpc: closed: [Errno 104] Connection reset by peer"


async def test_a_stream_id_is_used_up_at_last(socket_path: Path) -> None:
    async with serving(socket_path), connected(socket_path) as channel:
        channel._connection.streams._next_id = 2**32 - 1
        assert await call(channel, "Echo", "last") == "last"

        status, message = await failure(call(channel, "Echo"))

    assert (status, message) == (Status.UNAVAILABLE, "ttrpc: the connection has used all its stream ids")


async def send_many(stream: Any, count: int) -> None:
    for _ in range(count):
        await stream.send_message(Note("x" * (1 << 18)))
