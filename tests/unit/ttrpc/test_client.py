"""The channel: calls in all cardinalities, as stubs make them, and calls that are given up."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import ProtocolError, StreamTerminatedError

from tests.unit.ttrpc.support import (
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
    failure,
    open_call,
    raw_server,
    respond,
    serving,
    until,
)
from ttrpc.client import Channel
from ttrpc.client_call import Call as ClientCall
from ttrpc.client_call import split_route
from ttrpc.envelope import Request, RpcStatus, decode_request, encode_error
from ttrpc.frame import (
    DATA,
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
