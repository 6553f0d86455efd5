"""The channel: calls as generated stubs make them, deadlines, limits, faults of servers, and lost connections."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from tests.unit.ttrpc.support import (
    PATIENCE,
    SERVICE,
    SS,
    SU,
    US,
    UU,
    Note,
    NoteCodec,
    RawPeer,
    call,
    connected,
    raw_server,
    serving,
    until,
)
from ttrpc.client import Channel
from ttrpc.client_call import Call as ClientCall
from ttrpc.client_call import split_route
from ttrpc.deadline import Deadline
from ttrpc.envelope import Request, RpcStatus, decode_request, encode_error, encode_response
from ttrpc.frame import (
    DATA,
    HEADER,
    MESSAGE_MAX,
    NO_DATA,
    REMOTE_CLOSED,
    REMOTE_OPEN,
    REQUEST,
    RESPONSE,
    Frame,
    encode_frame,
)
from ttrpc.inbox import Inbox
from ttrpc.server_call import Call as ServerCall

pytestmark = pytest.mark.anyio

END = DATA, REMOTE_CLOSED | NO_DATA, b""


def open_call(channel: Channel, cardinality: Cardinality, **options: Any) -> Any:
    return channel.request(f"/{SERVICE}/Any", cardinality, Note, Note, **options)


async def failure(coroutine: Any) -> tuple[Status, str | None]:
    with pytest.raises(GRPCError) as caught:
        await coroutine
    return caught.value.status, caught.value.message


def respond(peer: RawPeer, stream_id: int, text: str) -> None:
    peer.send(encode_frame(stream_id, RESPONSE, 0, encode_response(text.encode())))


async def test_a_unary_call_is_one_frame_each_way() -> None:
    async with raw_server() as (channel, peer), asyncio.TaskGroup() as group:
        task = group.create_task(call(channel, "Echo", "hi", timeout=5, metadata={"NS": "x"}))
        frame = await peer.frame()
        respond(peer, 1, "ho")

    assert (frame.stream_id, frame.type, frame.flags) == (1, REQUEST, 0)
    request = decode_request(frame.payload)
    assert request == Request(SERVICE, "Echo", b"hi", request.timeout_nano, (("ns", "x"),))
    assert 4e9 < request.timeout_nano <= 5e9
    assert task.result() == "ho"


async def test_responses_may_come_in_any_order(socket_path: Path) -> None:
    async with raw_server() as (channel, peer), asyncio.TaskGroup() as group:
        tasks = [group.create_task(call(channel, "Echo", str(number))) for number in range(50)]
        frames = [await peer.frame() for _ in tasks]
        for frame in reversed(frames):
            respond(peer, frame.stream_id, decode_request(frame.payload).payload.decode())

    assert [task.result() for task in tasks] == [str(number) for number in range(50)]


async def test_calls_in_great_number_get_their_own_responses(socket_path: Path) -> None:
    async with serving(socket_path), connected(socket_path) as channel:
        for _ in range(5):
            replies = await asyncio.gather(*(call(channel, "Echo", str(number)) for number in range(500)))
            assert replies == [str(number) for number in range(500)]


async def test_a_stream_of_messages_each_way() -> None:
    async with raw_server() as (channel, peer), open_call(channel, SS) as stream:
        await stream.send_request()
        await stream.send_message(Note("a"))
        await stream.send_message(Note(""), end=True)
        frames = [await peer.frame() for _ in range(4)]
        assert (frames[0].type, frames[0].flags) == (REQUEST, REMOTE_OPEN)
        assert frames[1:] == [Frame(1, DATA, 0, b"a"), Frame(1, DATA, 0, b""), Frame(1, *END)]

        peer.send(encode_frame(1, DATA, 0, b"x") + encode_frame(1, DATA, 0, b"") + encode_frame(1, *END))
        assert [note.text async for note in stream] == ["x", ""]
        assert await stream.recv_message() is None


async def test_the_first_message_opens_a_stream() -> None:
    async with raw_server() as (channel, peer), open_call(channel, SU) as stream:
        await stream.send_message(Note("a"))
        await stream.end()
        assert [(await peer.frame()).type for _ in range(3)] == [REQUEST, DATA, DATA]

        respond(peer, 1, "done")
        assert await stream.recv_message() == Note("done")
        assert await stream.recv_message() is None


async def test_a_stream_without_messages_is_closed_at_once() -> None:
    async with raw_server() as (channel, peer), open_call(channel, SU) as stream:
        await stream.send_request(end=True)

        assert [(await peer.frame()).flags for _ in range(2)] == [REMOTE_OPEN, REMOTE_CLOSED | NO_DATA]


async def test_a_server_stream_is_asked_for_with_one_message() -> None:
    async with raw_server() as (channel, peer), open_call(channel, US) as stream:
        await stream.send_request()
        await stream.send_message(Note("go"), end=True)
        await stream.end()
        frame = await peer.frame()
        assert (frame.flags, decode_request(frame.payload).payload) == (REMOTE_CLOSED, b"go")

        peer.send(encode_frame(1, DATA, 0, b"x"))
        peer.send(encode_frame(1, RESPONSE, 0, encode_error(RpcStatus(10, "enough"))))
        assert await stream.recv_message() == Note("x")
        assert await failure(stream.recv_message()) == (Status.ABORTED, "enough")


@pytest.mark.parametrize("cardinality", [UU, SS])
async def test_using_a_call_in_the_wrong_order_is_an_error(cardinality: Cardinality) -> None:
    async with raw_server() as (channel, _), open_call(channel, cardinality) as stream:
        with pytest.raises(ProtocolError, match="no request has been sent"):
            await stream.recv_message()
        with pytest.raises(ProtocolError, match=r"needs a message|no request has been sent"):
            await stream.end()
        await stream.send_message(Note("a"), end=True)
        with pytest.raises(ProtocolError, match="the last message has been sent"):
            await stream.send_message(Note("b"))


async def test_requests_are_sent_once_and_unary_ones_with_a_message() -> None:
    async with raw_server() as (channel, _):
        async with open_call(channel, SS) as stream:
            await stream.send_request(end=True)
            with pytest.raises(ProtocolError, match="the request has been sent"):
                await stream.send_request()
            with pytest.raises(ProtocolError, match="the last message has been sent"):
                await stream.end()
        async with open_call(channel, UU) as stream:
            with pytest.raises(ProtocolError, match="a unary request needs a message"):
                await stream.send_request(end=True)


@pytest.mark.parametrize("limits", [{"timeout": 0.02}, {"deadline": Deadline.from_timeout(0.02)}])
async def test_a_deadline_ends_the_call_here_whatever_the_server_does(limits: dict[str, Any]) -> None:
    started = time.monotonic()
    async with raw_server() as (channel, peer):
        assert await failure(call(channel, "Hang", **limits)) == (
            Status.DEADLINE_EXCEEDED,
            "context deadline exceeded",
        )
        assert time.monotonic() - started < PATIENCE

        frames = []
        if "timeout" in limits:
            frames.append(await peer.frame())
            respond(peer, 1, "late")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(call(channel, "Echo"))
            while not frames or decode_request(frames[-1].payload).method != "Echo":
                frames.append(await peer.frame())
            respond(peer, frames[-1].stream_id, "fine")
        assert task.result() == "fine"


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


async def test_a_call_that_is_cancelled_or_left_receives_nothing_more() -> None:
    async with raw_server() as (channel, peer):
        async with open_call(channel, SS) as stream:
            await stream.send_request()
            await stream.cancel()
            assert await failure(stream.recv_message()) == (Status.CANCELLED, "the call was cancelled")
        async with open_call(channel, SS) as left:
            await left.send_request()
        assert await left.recv_message() is None
        with pytest.raises(StreamTerminatedError, match="the call has ended"):
            await left.send_message(Note("x"))
        await left.end()
        assert not channel._connection.calls

        async with asyncio.TaskGroup() as group:
            task = group.create_task(call(channel, "Echo"))
            assert [(await peer.frame()).stream_id for _ in range(3)] == [1, 3, 5]
            peer.send(encode_frame(1, DATA, 0, b"late") + encode_frame(3, RESPONSE, 0, b""))
            respond(peer, 5, "fine")
        assert task.result() == "fine"


async def test_cancelling_the_task_of_a_call_forgets_the_call() -> None:
    async with raw_server() as (channel, peer):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(call(channel, "Echo", timeout=60))
            await peer.frame()
            task.cancel()

        assert task.cancelled()
        assert not channel._connection.calls


async def test_sending_ends_when_the_server_has_ended_the_call() -> None:
    async with raw_server() as (channel, peer):
        async with open_call(channel, SU) as stream:
            await stream.send_request()
            peer.send(encode_frame(1, RESPONSE, 0, encode_error(RpcStatus(8, "too much"))))
            await until(lambda: stream.inbox.ended)
            assert await failure(stream.send_message(Note("x"))) == (Status.RESOURCE_EXHAUSTED, "too much")
            await stream.end()
        async with open_call(channel, SS) as stream:
            await stream.send_request()
            peer.send(encode_frame(3, *END))
            await until(lambda: stream.inbox.ended)
            with pytest.raises(StreamTerminatedError):
                await stream.send_message(Note("x"))


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


async def send_many(stream: Any, count: int) -> None:
    for _ in range(count):
        await stream.send_message(Note("x" * (1 << 18)))


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


async def test_sockets_of_other_families_and_descriptors_work() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    sock = socket.create_connection(listening.getsockname())
    accepted, _ = listening.accept()
    listening.close()
    peer = RawPeer(*await asyncio.open_connection(sock=accepted))
    channel = await Channel.over_socket(sock, NoteCodec())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(call(channel, "Echo"))
        await peer.frame()
        respond(peer, 1, "over TCP")
    assert task.result() == "over TCP"
    channel.close()
    await channel.wait_closed()
    await peer.close()


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


async def test_a_finished_call_is_freed_without_the_garbage_collector(socket_path: Path) -> None:
    async with serving(socket_path), connected(socket_path) as channel:
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await call(channel, "Echo", "x", timeout=60)
            left = [thing for thing in gc.get_objects() if isinstance(thing, ClientCall | ServerCall | Inbox)]
        finally:
            gc.enable()
    # One at most: the server's last, whose task may not have been seen to be done.
    assert len(left) <= 1


@pytest.mark.parametrize("route", ["", "/", "Echo", "/Echo", "//Echo", "/demo.v1.Echo/"])
def test_a_malformed_route_is_an_error(route: str) -> None:
    with pytest.raises(ValueError, match="not a route"):
        split_route(route)


def test_a_route_is_service_and_method() -> None:
    assert split_route("/containerd.task.v2.Task/Create") == ("containerd.task.v2.Task", "Create")


async def test_a_stream_id_is_used_up_at_last(socket_path: Path) -> None:
    async with serving(socket_path), connected(socket_path) as channel:
        channel._connection.streams._next_id = 2**32 - 1
        assert await call(channel, "Echo", "last") == "last"

        status, message = await failure(call(channel, "Echo"))

    assert (status, message) == (Status.UNAVAILABLE, "ttrpc: the connection has used all its stream ids")
