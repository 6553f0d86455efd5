"""The server over UNIX sockets: dispatch, concurrency, errors, deadlines, streams, and faults of clients."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.unit.ttrpc.support import (
    SS,
    SU,
    US,
    UU,
    Gate,
    Methods,
    Note,
    call,
    connected,
    echo,
    echo_all,
    error,
    failure,
    hang,
    raw_client,
    request,
    response,
    serving,
    until,
)
from ttrpc.envelope import Response, RpcStatus
from ttrpc.frame import (
    DATA,
    HEADER,
    MESSAGE_MAX,
    NO_DATA,
    REMOTE_CLOSED,
    REMOTE_OPEN,
    REQUEST,
    Frame,
    encode_frame,
)

pytestmark = pytest.mark.anyio


async def test_a_unary_call_is_answered(socket_path: Path) -> None:
    async with serving(socket_path), raw_client(socket_path) as client:
        client.send(request(1, "Echo", b"hello"))

        assert await response(client) == (1, Response(None, b"hello"))


async def test_a_handler_that_waits_delays_no_other_call(socket_path: Path) -> None:
    gate = Gate()
    async with serving(socket_path, Methods(Echo=(UU, echo), Wait=(UU, gate))), raw_client(socket_path) as client:
        client.send(b"".join(request(stream_id, "Wait", b"late") for stream_id in range(1, 200, 2)))
        client.send(request(201, "Echo", b"at once"))

        assert await response(client) == (201, Response(None, b"at once"))
        gate.open.set()
        late = sorted([await response(client) for _ in range(100)])

    assert late == [(stream_id, Response(None, b"late")) for stream_id in range(1, 200, 2)]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        pytest.param(
            HEADER.pack(5 << 20, 1, REQUEST, 0) + bytes(5 << 20),
            (1, error(Status.RESOURCE_EXHAUSTED, "message length 5242880 exceed maximum message size of 4194304")),
            id="length 5 MiB",
        ),
        pytest.param(
            request(2, "Echo"),
            (2, error(Status.INVALID_ARGUMENT, "StreamID must be odd for client initiated streams")),
            id="even id",
        ),
        pytest.param(encode_frame(1, 9, 0, b"what"), None, id="type 9"),
        pytest.param(
            encode_frame(1, REQUEST, 0, b"\xff"),
            (1, error(Status.INVALID_ARGUMENT, "unmarshal request error: a varint is cut off")),
            id="truncated protobuf",
        ),
        pytest.param(
            request(1, "Echo", b"\xff"),
            (1, error(Status.INTERNAL, "ttrpc: error unmarshalling payload: not a note")),
            id="bad payload",
        ),
        pytest.param(request(1, "Nope"), (1, error(Status.UNIMPLEMENTED, "method Nope")), id="unknown method"),
    ],
)
async def test_the_connection_survives(socket_path: Path, bad: bytes, expected: tuple[int, Response] | None) -> None:
    async with serving(socket_path), raw_client(socket_path) as client:
        client.send(bad)
        if expected is not None:
            assert await response(client) == expected
        client.send(request(7, "Echo", b"fine"))

        assert await response(client) == (7, Response(None, b"fine"))


async def test_a_repeated_id_is_refused_and_the_first_call_goes_on(socket_path: Path) -> None:
    gate = Gate()
    async with serving(socket_path, Methods(Wait=(UU, gate))), raw_client(socket_path) as client:
        client.send(request(1, "Wait", b"first") + request(1, "Wait"))
        text = "StreamID cannot be re-used and must increment"
        assert await response(client) == (1, error(Status.INVALID_ARGUMENT, text))

        gate.open.set()

        assert await response(client) == (1, Response(None, b"first"))


async def test_the_end_of_a_connection_in_the_middle_of_a_frame_harms_nobody_else(socket_path: Path) -> None:
    async with serving(socket_path) as server, connected(socket_path) as channel:
        async with raw_client(socket_path) as client:
            client.send(request(1, "Echo")[:-3])
            await until(lambda: len(server._connections) == 2)
        await until(lambda: len(server._connections) == 1)

        assert await call(channel, "Echo", "fine") == "fine"


async def raise_grpc(stream: Any) -> None:
    raise GRPCError(Status.NOT_FOUND, 'container "c1": not found', [b"detail"])


async def raise_other(stream: Any) -> None:
    raise FileNotFoundError(2, "No such file", "\udcff")


async def raise_unsendable(stream: Any) -> None:
    raise GRPCError(Status.ABORTED, "", "not a list")


async def raise_silent(stream: Any) -> None:
    raise ValueError


async def raise_cancelled(stream: Any) -> None:
    raise asyncio.CancelledError


async def silent(stream: Any) -> None:
    await stream.recv_message()


async def huge(stream: Any) -> None:
    await stream.send_message(Note("x" * MESSAGE_MAX))


async def raise_huge(stream: Any) -> None:
    raise ValueError("x" * (5 << 20))


@pytest.mark.parametrize(
    ("func", "code", "message"),
    [
        (raise_grpc, Status.NOT_FOUND, 'container "c1": not found'),
        (raise_other, Status.UNKNOWN, "[Errno 2] No such file: '\\udcff'"),
        (raise_unsendable, Status.UNKNOWN, "GRPCError that can't be sent: TypeError"),
        (raise_silent, Status.UNKNOWN, "ValueError"),
        (raise_cancelled, Status.CANCELLED, "the handler was cancelled"),
        (silent, Status.INTERNAL, "the handler sent no response"),
        (huge, Status.RESOURCE_EXHAUSTED, "message length 4194309 exceed maximum message size of 4194304"),
        (raise_huge, Status.UNKNOWN, "x" * 16381 + "..."),
    ],
)
async def test_whatever_a_handler_does_its_caller_is_answered_and_others_go_on(
    socket_path: Path, func: Any, code: Status, message: str
) -> None:
    service = Methods(Echo=(UU, echo), Fail=(UU, func))
    async with serving(socket_path, service), connected(socket_path) as channel:
        assert await failure(call(channel, "Fail")) == (code, message)
        assert await call(channel, "Echo", "fine") == "fine"


async def test_an_error_may_carry_details(socket_path: Path) -> None:
    async with serving(socket_path, Methods(Fail=(UU, raise_grpc))), connected(socket_path) as channel:
        with pytest.raises(GRPCError) as caught:
            await call(channel, "Fail")

    assert caught.value.details == (b"detail",)


async def test_a_second_response_is_an_error_of_the_handler_that_nobody_hears_of(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def twice(stream: Any) -> None:
        await stream.send_message(Note("first"))
        await stream.send_message(Note("second"))

    async with serving(socket_path, Methods(Twice=(UU, twice))), raw_client(socket_path) as client:
        client.send(request(1, "Twice") + request(3, "Twice"))

        assert [await response(client), await response(client)] == [
            (1, Response(None, b"first")),
            (3, Response(None, b"first")),
        ]
    assert "the call is over" in caplog.text


async def test_a_deadline_cancels_the_handler_and_is_answered(socket_path: Path) -> None:
    gate = Gate()
    async with serving(socket_path, Methods(Wait=(UU, gate))), raw_client(socket_path) as client:
        client.send(request(1, "Wait", timeout_nano=20_000_000))

        assert await response(client) == (1, error(Status.DEADLINE_EXCEEDED, "context deadline exceeded"))
        await until(lambda: gate.cancelled == 1)


async def test_a_handler_that_resists_its_deadline_is_answered_for_once(socket_path: Path) -> None:
    async def stubborn(stream: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await stream.recv_message()
        await stream.send_message(Note("too late"))

    service = Methods(Stubborn=(UU, stubborn), Echo=(UU, echo))
    async with serving(socket_path, service), raw_client(socket_path) as client:
        client.send(request(1, "Stubborn", timeout_nano=1_000_000))
        assert (await response(client))[1].status == RpcStatus(4, "context deadline exceeded")

        client.send(request(3, "Echo", b"next"))
        assert await response(client) == (3, Response(None, b"next"))


async def test_a_deadline_does_not_cancel_a_handler_that_has_answered(socket_path: Path) -> None:
    lingering = Gate()

    async def answer_and_linger(stream: Any) -> None:
        await stream.send_message(Note("answered"))
        await lingering(stream)

    service = Methods(Linger=(UU, answer_and_linger), Hang=(UU, hang))
    async with serving(socket_path, service), raw_client(socket_path) as client:
        client.send(request(1, "Linger", timeout_nano=1_000_000))
        assert await response(client) == (1, Response(None, b"answered"))
        client.send(request(3, "Hang", timeout_nano=20_000_000))
        assert (await response(client))[0] == 3

        assert (lingering.entered, lingering.cancelled) == (1, 0)


async def test_a_deadline_that_has_passed_runs_no_handler(socket_path: Path) -> None:
    gate = Gate()
    async with serving(socket_path, Methods(Wait=(UU, gate))), raw_client(socket_path) as client:
        client.send(request(1, "Wait", timeout_nano=-1))

        assert await response(client) == (1, error(Status.DEADLINE_EXCEEDED, "context deadline exceeded"))
    assert gate.entered == 0


async def test_what_comes_together_with_a_request_that_is_too_late_is_ignored(socket_path: Path) -> None:
    gate = Gate()
    late = {"timeout_nano": -1, "flags": REMOTE_OPEN}
    async with serving(socket_path, Methods(Wait=(SU, gate), Echo=(UU, echo))), raw_client(socket_path) as client:
        client.send(request(1, "Wait", **late) + encode_frame(1, DATA, 0, b"x") + request(3, "Echo"))
        assert await response(client) == (1, error(Status.DEADLINE_EXCEEDED, "context deadline exceeded"))
        assert await response(client) == (3, Response())

        client.send(request(5, "Wait", **late) + HEADER.pack(5 << 20, 5, DATA, 0) + bytes(5 << 20))
        text = "message length 5242880 exceed maximum message size of 4194304"
        assert await response(client) == (5, error(Status.RESOURCE_EXHAUSTED, text))
        client.send(request(7, "Echo"))
        assert await response(client) == (7, Response())
    assert gate.entered == 0


async def test_a_handler_sees_deadline_metadata_and_peer(socket_path: Path) -> None:
    seen: list[Any] = []

    async def look(stream: Any) -> None:
        remaining = stream.deadline and stream.deadline.time_remaining()
        seen.append((remaining, dict(stream.metadata), stream.peer))
        await echo(stream)

    async with serving(socket_path, Methods(Look=(UU, look))), connected(socket_path) as channel:
        await call(channel, "Look")
        await call(channel, "Look", timeout=50, metadata={"Containerd-Namespace-Ttrpc": "k8s.io"})

    (none, empty, peer), (remaining, metadata, _) = seen
    assert (none, empty) == (None, {})
    assert peer == (os.getpid(), os.geteuid(), os.getegid())
    assert 40 < remaining <= 50
    assert metadata == {"containerd-namespace-ttrpc": "k8s.io"}


async def test_streaming_frames_are_those_of_the_protocol(socket_path: Path) -> None:
    async def join(stream: Any) -> None:
        await stream.send_message(Note("".join([note.text async for note in stream])))

    async def split(stream: Any) -> None:
        for letter in (await stream.recv_message()).text:
            await stream.send_message(Note(letter))

    async def refuse(stream: Any) -> None:
        await stream.send_message(Note("one"))
        raise GRPCError(Status.ABORTED, "enough")

    service = Methods(Join=(SU, join), Split=(US, split), Refuse=(US, refuse), EchoAll=(SS, echo_all))
    end = DATA, REMOTE_CLOSED | NO_DATA, b""
    async with serving(socket_path, service), raw_client(socket_path) as client:
        client.send(
            request(1, "Join", flags=REMOTE_OPEN)
            + encode_frame(1, DATA, 0, b"a")
            + encode_frame(1, DATA, 0, b"")
            + encode_frame(1, DATA, 0, b"b")
            + encode_frame(1, *end)
        )
        assert await response(client) == (1, Response(None, b"ab"))

        client.send(request(3, "Split", b"xy", REMOTE_CLOSED))
        expected = [Frame(3, DATA, 0, b"x"), Frame(3, DATA, 0, b"y"), Frame(3, *end)]
        assert [await client.frame() for _ in expected] == expected

        client.send(request(5, "Split", b"", REMOTE_CLOSED))
        assert await client.frame() == Frame(5, *end)

        client.send(request(7, "Refuse", b"", REMOTE_CLOSED))
        assert await client.frame() == Frame(7, DATA, 0, b"one")
        assert await response(client) == (7, error(Status.ABORTED, "enough"))

        client.send(request(11, "Join", b"all", REMOTE_CLOSED))
        assert await response(client) == (11, Response(None, b"all"))

        client.send(request(13, "EchoAll", b"in the request", REMOTE_OPEN))
        assert await client.frame() == Frame(13, DATA, 0, b"in the request")
        client.send(encode_frame(13, DATA, REMOTE_CLOSED, b"with the end"))
        assert [await client.frame() for _ in range(2)] == [Frame(13, DATA, 0, b"with the end"), Frame(13, *end)]


async def test_a_fault_in_the_middle_of_a_stream_cancels_its_handler(socket_path: Path) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def receive(stream: Any) -> None:
        entered.set()
        try:
            await stream.recv_message()
        finally:
            ended.set()

    async with serving(socket_path, Methods(Receive=(SU, receive))), raw_client(socket_path) as client:
        client.send(request(1, "Receive", flags=REMOTE_OPEN))
        await until(entered.is_set)
        client.send(HEADER.pack(5 << 20, 1, DATA, 0) + bytes(5 << 20))

        text = "message length 5242880 exceed maximum message size of 4194304"
        assert await response(client) == (1, error(Status.RESOURCE_EXHAUSTED, text))
        await until(ended.is_set)


async def test_a_call_and_its_fault_may_come_together(socket_path: Path) -> None:
    gate = Gate()
    async with serving(socket_path, Methods(Wait=(UU, gate), Echo=(UU, echo))), raw_client(socket_path) as client:
        client.send(request(1, "Wait") + encode_frame(1, DATA, 0, b"x") + request(3, "Echo"))

        text = "data handling error: the client has closed the stream"
        assert await response(client) == (1, error(Status.INVALID_ARGUMENT, text))
        assert await response(client) == (3, Response())
    assert gate.entered == 0


async def test_messages_for_a_handler_that_has_answered_early_are_refused(socket_path: Path) -> None:
    lingering = asyncio.Event()

    async def early(stream: Any) -> None:
        await stream.send_message(Note("early"))
        await lingering.wait()

    async with serving(socket_path, Methods(Early=(SU, early))), raw_client(socket_path) as client:
        client.send(request(1, "Early", flags=REMOTE_OPEN))
        assert await response(client) == (1, Response(None, b"early"))

        client.send(encode_frame(1, DATA, 0, b"more"))

        assert await response(client) == (1, error(Status.INVALID_ARGUMENT, "StreamID is no longer active"))
        lingering.set()


async def test_handlers_are_not_logged_for_errors_they_mean(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ttrpc")
    service = Methods(Fail=(UU, raise_grpc), Hang=(UU, hang))
    async with serving(socket_path, service), connected(socket_path) as channel:
        await failure(call(channel, "Fail"))
        await failure(call(channel, "Hang", timeout=0.01))

    assert [record for record in caplog.records if record.name == "ttrpc"] == []
