"""The server's table of streams: what each frame of a client leads to, well-formed or not."""

from __future__ import annotations

from typing import Any

import pytest
from grpclib.const import Status

from tests.unit.ttrpc.support import SERVICE, SS, SU, US, UU, Methods, hang
from ttrpc.envelope import Request, Response, RpcStatus, decode_response, encode_request
from ttrpc.errors import TEXT_MAX, OversizedMessageError, StreamClosedError, rpc_status
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
    FrameParser,
    encode_frame,
)
from ttrpc.server_streams import (
    CallAborted,
    CallStarted,
    MessageReceived,
    ServerEvent,
    ServerStreams,
    build_routes,
)

METHODS = Methods(Unary=(UU, hang), Split=(US, hang), Add=(SU, hang), Chat=(SS, hang))


def streams(streams_max: int = 100) -> ServerStreams:
    return ServerStreams(build_routes([METHODS]), streams_max)


def request(stream_id: int, method: str = "Unary", flags: int = 0, payload: bytes = b"p", **fields: Any) -> bytes:
    body = encode_request(Request(fields.pop("service", SERVICE), method, payload, **fields))
    return encode_frame(stream_id, REQUEST, flags, body)


def answers(table: ServerStreams) -> list[tuple[int, Response]]:
    frames = FrameParser().feed(table.take_answers())
    assert all(isinstance(frame, Frame) and (frame.type, frame.flags) == (RESPONSE, 0) for frame in frames)
    return [(frame.stream_id, decode_response(frame.payload)) for frame in frames if isinstance(frame, Frame)]


def error(code: Status, text: str) -> Response:
    return Response(RpcStatus(code.value, text))


def started(event: ServerEvent) -> CallStarted:
    assert isinstance(event, CallStarted)
    return event


def test_a_request_starts_a_call_of_its_handler() -> None:
    table = streams()

    (event,) = table.receive_data(request(1, "Split", REMOTE_CLOSED, timeout_nano=5, metadata=(("a", "b"),)))

    assert started(event).request == Request(SERVICE, "Split", b"p", 5, (("a", "b"),))
    assert started(event).handler.cardinality is US
    assert (event.stream_id, started(event).receiving) == (1, False)
    assert 1 in table
    assert table.take_answers() == b""


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param(
            HEADER.pack(5 << 20, 1, REQUEST, 0) + bytes(5 << 20),
            [(1, error(Status.RESOURCE_EXHAUSTED, "message length 5242880 exceed maximum message size of 4194304"))],
            id="length 5 MiB",
        ),
        pytest.param(
            request(2),
            [(2, error(Status.INVALID_ARGUMENT, "StreamID must be odd for client initiated streams"))],
            id="even id",
        ),
        pytest.param(
            encode_frame(4, DATA, 0, b"x"),
            [(4, error(Status.INVALID_ARGUMENT, "StreamID must be odd for client initiated streams"))],
            id="data on an even id",
        ),
        pytest.param(
            request(1) + request(1),
            [(1, error(Status.INVALID_ARGUMENT, "StreamID cannot be re-used and must increment"))],
            id="repeated id",
        ),
        pytest.param(
            request(5) + request(3),
            [(3, error(Status.INVALID_ARGUMENT, "StreamID cannot be re-used and must increment"))],
            id="decreasing id",
        ),
        pytest.param(encode_frame(1, 9, 0, b"whatever"), [], id="type 9"),
        pytest.param(encode_frame(2, 9, 0, b"whatever"), [], id="type 9 on an even id"),
        pytest.param(encode_frame(1, RESPONSE, 0, b""), [], id="response to a server"),
        pytest.param(
            encode_frame(1, REQUEST, 0, b"\x0a\x05abc"),
            [(1, error(Status.INVALID_ARGUMENT, "unmarshal request error: field 1 of 5 bytes is cut off after 3"))],
            id="truncated protobuf",
        ),
        pytest.param(
            encode_frame(1, DATA, 0, b"x"),
            [(1, error(Status.INVALID_ARGUMENT, "StreamID is no longer active"))],
            id="data on an unknown stream",
        ),
        pytest.param(
            request(1, service="no.Such"),
            [(1, error(Status.UNIMPLEMENTED, "service no.Such"))],
            id="unknown service",
        ),
        pytest.param(request(1, "Nope"), [(1, error(Status.UNIMPLEMENTED, "method Nope"))], id="unknown method"),
    ],
)
def test_a_malformed_frame_is_answered_on_its_stream_and_the_connection_goes_on(
    frames: bytes, expected: list[tuple[int, Response]]
) -> None:
    table = streams()

    table.receive_data(frames + request(7))

    assert answers(table) == expected
    assert 7 in table


def test_a_frame_that_breaks_off_is_no_call() -> None:
    table = streams()

    assert table.receive_data(request(1)[:-1]) == []
    assert 1 not in table


def test_a_byte_at_a_time_gives_the_same_call() -> None:
    table = streams()

    events = [event for byte in request(1) for event in table.receive_data(bytes([byte]))]

    assert [event.stream_id for event in events] == [1]


def test_a_hostile_name_is_cut_in_the_answer() -> None:
    table = streams()

    table.receive_data(request(1, service="x" * 3_000_000))

    ((_, response),) = answers(table)
    assert response.status is not None
    assert len(response.status.message) == TEXT_MAX
    assert response.status.message.endswith("xxx...")


def test_a_unary_call_ends_with_its_response() -> None:
    table = streams()
    table.receive_data(request(1))

    frame = table.respond(1, b"reply")

    assert FrameParser().feed(frame) == [Frame(1, RESPONSE, 0, b"\x12\x05reply")]
    assert 1 not in table


def test_a_call_of_messages_ends_with_a_frame_without_data() -> None:
    table = streams()
    table.receive_data(request(1, "Split", REMOTE_CLOSED))

    frames = FrameParser().feed(table.send(1, b"a") + table.send(1, b"") + table.end(1))

    assert frames == [
        Frame(1, DATA, 0, b"a"),
        Frame(1, DATA, 0, b""),
        Frame(1, DATA, REMOTE_CLOSED | NO_DATA, b""),
    ]
    assert 1 not in table


def test_a_call_may_end_with_an_error() -> None:
    table = streams()
    table.receive_data(request(1))

    (frame,) = FrameParser().feed(table.fail(1, rpc_status(Status.NOT_FOUND, "gone")))

    assert isinstance(frame, Frame)
    assert decode_response(frame.payload) == error(Status.NOT_FOUND, "gone")
    assert 1 not in table


def test_nothing_can_be_sent_on_a_stream_that_has_ended() -> None:
    table = streams()
    table.receive_data(request(1))
    table.respond(1, b"")

    for send in (table.respond, table.send):
        with pytest.raises(StreamClosedError, match="stream 1 has been answered"):
            send(1, b"")
    with pytest.raises(StreamClosedError):
        table.end(1)
    with pytest.raises(StreamClosedError):
        table.fail(1, RpcStatus())


def test_nothing_can_be_sent_after_the_connection_has_gone() -> None:
    table = streams()
    table.receive_data(request(1))

    table.abandon()

    with pytest.raises(StreamClosedError):
        table.respond(1, b"")


def test_an_oversized_message_is_refused_and_the_stream_stays_open() -> None:
    table = streams()
    table.receive_data(request(1) + request(3, "Split"))

    with pytest.raises(OversizedMessageError, match="exceed maximum message size of 4194304"):
        table.respond(1, bytes(MESSAGE_MAX))
    with pytest.raises(OversizedMessageError):
        table.send(3, bytes(MESSAGE_MAX + 1))

    assert 1 in table
    assert len(table.send(3, bytes(MESSAGE_MAX))) == MESSAGE_MAX + 10


def test_details_that_do_not_fit_are_dropped_from_an_error() -> None:
    table = streams()
    table.receive_data(request(1))

    (frame,) = FrameParser().feed(table.fail(1, RpcStatus(5, "gone", (bytes(MESSAGE_MAX),))))

    assert isinstance(frame, Frame)
    assert decode_response(frame.payload) == error(Status.NOT_FOUND, "gone")


def test_a_client_sends_messages_until_it_closes_its_side() -> None:
    table = streams()
    data = (
        request(1, "Chat", REMOTE_OPEN, b"")
        + encode_frame(1, DATA, 0, b"a")
        + encode_frame(1, DATA, 0, b"")
        + encode_frame(1, DATA, NO_DATA, b"")
        + encode_frame(1, DATA, REMOTE_CLOSED | NO_DATA, b"")
        + encode_frame(1, DATA, REMOTE_CLOSED | NO_DATA, b"")
    )

    first, *events = table.receive_data(data)

    assert started(first).receiving
    assert events == [
        MessageReceived(1, b"a", ended=False),
        MessageReceived(1, b"", ended=False),
        MessageReceived(1, None, ended=False),
        MessageReceived(1, None, ended=True),
    ]
    assert answers(table) == []


def test_the_last_message_may_close_the_clients_side() -> None:
    table = streams()

    _, event = table.receive_data(request(1, "Add", REMOTE_OPEN) + encode_frame(1, DATA, REMOTE_CLOSED, b"last"))

    assert event == MessageReceived(1, b"last", ended=True)


def test_a_request_may_say_that_no_messages_follow() -> None:
    (event,) = streams().receive_data(request(1, "Add", REMOTE_CLOSED))

    assert not started(event).receiving


def test_a_message_after_the_close_fails_the_call() -> None:
    table = streams()

    _, event = table.receive_data(request(1) + encode_frame(1, DATA, 0, b"more"))

    assert event == CallAborted(1)
    text = "data handling error: the client has closed the stream"
    assert answers(table) == [(1, error(Status.INVALID_ARGUMENT, text))]
    assert 1 not in table


def test_an_oversized_message_fails_its_call_only() -> None:
    table = streams()
    calls = request(1, "Chat", REMOTE_OPEN) + request(3, "Chat", REMOTE_OPEN)

    events = table.receive_data(calls + HEADER.pack(MESSAGE_MAX + 1, 1, DATA, 0))

    assert events[2:] == [CallAborted(1)]
    assert 1 not in table
    assert 3 in table


def test_streams_are_capped() -> None:
    table = streams(streams_max=2)

    table.receive_data(request(1) + request(3) + request(5))
    assert answers(table) == [
        (5, error(Status.RESOURCE_EXHAUSTED, "2 calls are open on this connection")),
    ]

    table.respond(1, b"")
    assert len(table.receive_data(request(7))) == 1


def test_a_draining_server_refuses_new_calls_and_goes_on_with_old_ones() -> None:
    table = streams()
    table.receive_data(request(1))
    table.draining = True

    assert table.receive_data(request(3)) == []

    assert answers(table) == [(3, error(Status.UNAVAILABLE, "ttrpc: the server is closing"))]
    assert table.respond(1, b"")


def test_a_route_is_served_once() -> None:
    with pytest.raises(ValueError, match=r"/demo\.v1\.Echo/Unary is served twice"):
        build_routes([METHODS, Methods(Unary=(UU, hang))])
