"""The client's table of streams: what it sends, and what it makes of what a server sends."""

from __future__ import annotations

import itertools

import pytest
from grpclib.const import Cardinality, Status
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.ttrpc.support import SERVICE, SS, SU, US, UU, Methods, hang
from ttrpc.client_streams import ClientStreams, Received
from ttrpc.envelope import Request, RpcStatus, encode_error, encode_request, encode_response
from ttrpc.errors import OversizedMessageError, StreamClosedError, rpc_status
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
from ttrpc.server_streams import CallStarted, MessageReceived, ServerStreams, build_routes


def opened(cardinality: Cardinality) -> ClientStreams:
    table = ClientStreams()
    assert table.open(cardinality, b"")[0] == 1
    return table


def ended(payload: bytes | None = None, error: RpcStatus | None = None) -> list[Received]:
    return [Received(1, payload, ended=True, error=error)]


def test_ids_are_odd_and_increase() -> None:
    table = ClientStreams()

    assert [table.open(UU, b"")[0] for _ in range(3)] == [1, 3, 5]


@pytest.mark.parametrize(("cardinality", "flags"), [(UU, 0), (US, REMOTE_CLOSED), (SU, REMOTE_OPEN), (SS, REMOTE_OPEN)])
def test_the_request_says_who_goes_on_to_send(cardinality: Cardinality, flags: int) -> None:
    _, frame = ClientStreams().open(cardinality, b"request")

    assert FrameParser().feed(frame) == [Frame(1, REQUEST, flags, b"request")]


def test_messages_and_their_end_are_data_frames() -> None:
    table = opened(SS)

    frames = FrameParser().feed(table.send(1, b"a") + table.send(1, b"") + table.end(1))

    assert frames == [
        Frame(1, DATA, 0, b"a"),
        Frame(1, DATA, 0, b""),
        Frame(1, DATA, REMOTE_CLOSED | NO_DATA, b""),
    ]


def test_oversized_messages_are_refused_and_cost_no_id() -> None:
    table = ClientStreams()

    with pytest.raises(OversizedMessageError, match="message length 4194305"):
        table.open(UU, bytes(MESSAGE_MAX + 1))
    with pytest.raises(OversizedMessageError):
        table.send(1, bytes(MESSAGE_MAX + 1))

    assert table.open(UU, bytes(MESSAGE_MAX))[0] == 1


def test_a_connection_ends_with_its_ids() -> None:
    table = ClientStreams(first_id=2**32 - 1)
    table.open(UU, b"")

    with pytest.raises(StreamClosedError, match="used all its stream ids"):
        table.open(UU, b"")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (encode_response(b"reply"), ended(b"reply")),
        (b"", ended(b"")),
        (b"\x0a\x00", ended(b"")),
        (encode_error(RpcStatus(5, "gone")), ended(error=RpcStatus(5, "gone"))),
        (
            b"\x12\x05abc",
            ended(
                error=rpc_status(
                    Status.INTERNAL,
                    "ttrpc: error unmarshalling response: field 2 of 5 bytes is cut off after 3",
                )
            ),
        ),
    ],
)
def test_a_response_ends_a_unary_call(body: bytes, expected: list[Received]) -> None:
    table = opened(UU)

    assert table.receive_data(encode_frame(1, RESPONSE, 0, body)) == expected
    assert 1 not in table


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (encode_frame(1, DATA, 0, b"a"), [Received(1, b"a", ended=False, error=None)]),
        (encode_frame(1, DATA, 0, b""), [Received(1, b"", ended=False, error=None)]),
        (encode_frame(1, DATA, REMOTE_CLOSED | NO_DATA, b""), ended()),
        (encode_frame(1, DATA, REMOTE_CLOSED, b"last"), ended(b"last")),
        (encode_frame(1, RESPONSE, 0, b""), ended()),
        (encode_frame(1, RESPONSE, 0, encode_response(b"last")), ended(b"last")),
        (encode_frame(1, RESPONSE, 0, encode_error(RpcStatus(4))), ended(error=RpcStatus(4))),
    ],
)
def test_a_stream_of_messages_goes_on_until_an_end(frame: bytes, expected: list[Received]) -> None:
    table = opened(US)

    assert table.receive_data(frame) == expected
    assert (1 in table) != expected[0].ended


def test_data_on_a_call_with_a_single_response_is_a_fault_of_the_server() -> None:
    text = "ttrpc: the server sent data on a call that has a single response"

    events = opened(SU).receive_data(encode_frame(1, DATA, 0, b"x"))

    assert events == ended(error=rpc_status(Status.INTERNAL, text))


def test_an_oversized_response_fails_its_call_only() -> None:
    table = opened(UU)
    table.open(UU, b"")
    oversized = HEADER.pack(5 << 20, 1, RESPONSE, 0) + bytes(5 << 20)

    events = table.receive_data(oversized + encode_frame(3, RESPONSE, 0, b""))

    text = "message length 5242880 exceed maximum message size of 4194304"
    assert events == [
        *ended(error=rpc_status(Status.RESOURCE_EXHAUSTED, text)),
        Received(3, b"", ended=True, error=None),
    ]


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(3, RESPONSE, 0, b""),
        encode_frame(3, DATA, 0, b"x"),
        encode_frame(1, REQUEST, 0, b""),
        encode_frame(1, 9, 0, b"x"),
        HEADER.pack(5 << 20, 2, RESPONSE, 0),
    ],
    ids=["late response", "late data", "request", "unknown type", "oversized on an unknown stream"],
)
def test_what_concerns_no_open_stream_or_has_no_meaning_is_ignored(frame: bytes) -> None:
    table = opened(UU)

    assert table.receive_data(frame) == []
    assert 1 in table


def test_a_forgotten_stream_receives_nothing() -> None:
    table = opened(UU)

    table.forget(1)
    table.forget(1)

    assert table.receive_data(encode_frame(1, RESPONSE, 0, b"")) == []


def test_a_connection_that_breaks_off_in_a_frame_is_known_to_have() -> None:
    table = opened(UU)

    table.receive_data(encode_frame(1, RESPONSE, 0, b"abc")[:-1])

    assert table.mid_frame


MESSAGES = st.lists(st.binary(max_size=50), max_size=5)


@given(
    st.lists(st.tuples(st.sampled_from(["Add", "Chat"]), MESSAGES, MESSAGES), max_size=5),
    st.integers(1, 60),
)
def test_client_and_server_tables_understand_each_other_in_any_chunks(
    calls: list[tuple[str, list[bytes], list[bytes]]], step: int
) -> None:
    cardinalities = {"Add": SU, "Chat": SS}
    client = ClientStreams()
    server = ServerStreams(build_routes([Methods(Add=(SU, hang), Chat=(SS, hang))]))
    wire = bytearray()
    for method, sent, _ in calls:
        stream_id, frame = client.open(cardinalities[method], encode_request(Request(SERVICE, method)))
        wire += b"".join([frame, *(client.send(stream_id, message) for message in sent), client.end(stream_id)])

    events = list(itertools.chain.from_iterable(map(server.receive_data, in_steps(wire, step))))
    back = bytearray()
    for number, (method, _, replies) in enumerate(calls):
        stream_id = 2 * number + 1
        if method == "Chat":
            back += b"".join([*(server.send(stream_id, reply) for reply in replies), server.end(stream_id)])
        else:
            back += server.respond(stream_id, b"".join(replies))
    received = list(itertools.chain.from_iterable(map(client.receive_data, in_steps(back, step))))

    assert server.take_answers() == b""
    assert [event.stream_id for event in events if isinstance(event, CallStarted)] == [
        2 * number + 1 for number in range(len(calls))
    ]
    for number, (method, sent, replies) in enumerate(calls):
        mine = [event for event in events if event.stream_id == 2 * number + 1]
        assert [event.payload for event in mine if isinstance(event, MessageReceived)] == [*sent, None]
        theirs = [event for event in received if event.stream_id == 2 * number + 1]
        assert [event.payload for event in theirs] == ([*replies, None] if method == "Chat" else [b"".join(replies)])
        assert [event.ended for event in theirs] == [False] * (len(theirs) - 1) + [True]


def in_steps(data: bytearray, step: int) -> list[bytes]:
    return [bytes(data[start : start + step]) for start in range(0, len(data), step)]


def test_a_response_above_the_caller_s_limit_ends_its_stream_undecoded() -> None:
    table = ClientStreams()
    table.open(UU, b"", response_max=10)
    table.open(UU, b"", response_max=10)

    too_long = table.receive_data(encode_frame(1, RESPONSE, 0, b"\xff" * 11))
    fits = table.receive_data(encode_frame(3, RESPONSE, 0, encode_response(b"12345678")))

    text = "ttrpc: a response of 11 bytes where at most 10 are expected"
    assert too_long == ended(error=rpc_status(Status.RESOURCE_EXHAUSTED, text))
    assert fits == [Received(3, b"12345678", ended=True, error=None)]
    assert 1 not in table
    assert 3 not in table
