"""The envelopes: the contract's vectors, round trips, and google.protobuf as the judge of every byte."""

from __future__ import annotations

import time
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as GoogleDecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from ttrpc.codec import DecodeError
from ttrpc.envelope import (
    DETAILS_MAX,
    Request,
    Response,
    RpcStatus,
    decode_request,
    decode_response,
    encode_error,
    encode_request,
    encode_response,
)
from ttrpc.frame import REQUEST, RESPONSE, encode_frame
from ttrpc.wire import encode_varint

_KINDS = descriptor_pb2.FieldDescriptorProto
_SCHEMA = {
    "KeyValue": [(1, "key", "STRING"), (2, "value", "STRING")],
    "Status": [(1, "code", "INT32"), (2, "message", "STRING"), (3, "details", "*BYTES")],
    "Request": [
        (1, "service", "STRING"),
        (2, "method", "STRING"),
        (3, "payload", "BYTES"),
        (4, "timeout_nano", "INT64"),
        (5, "metadata", "*KeyValue"),
    ],
    "Response": [(1, "status", "Status"), (2, "payload", "BYTES")],
}


def _google_messages() -> dict[str, Any]:
    """The envelopes as google.protobuf classes (details as bytes: we look no deeper)."""
    file = descriptor_pb2.FileDescriptorProto(name="envelope.proto", package="oracle", syntax="proto3")
    for name, entries in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for number, field, kind in entries:
            repeated, kind = kind.startswith("*"), kind.lstrip("*")
            added = message.field.add(name=field, number=number)
            added.label = _KINDS.LABEL_REPEATED if repeated else _KINDS.LABEL_OPTIONAL
            if kind in _SCHEMA:
                added.type, added.type_name = _KINDS.TYPE_MESSAGE, f".oracle.{kind}"
            else:
                added.type = getattr(_KINDS, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"oracle.{name}")) for name in _SCHEMA}


GOOGLE = _google_messages()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
REQUESTS = st.builds(
    Request,
    service=TEXT,
    method=TEXT,
    payload=st.binary(max_size=300),
    timeout_nano=st.integers(-(2**63), 2**63 - 1),
    metadata=st.lists(st.tuples(TEXT, TEXT), max_size=4).map(tuple),
)
STATUSES = st.builds(
    RpcStatus,
    code=st.integers(-(2**31), 2**31 - 1),
    message=TEXT,
    details=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
)
#: Bytes that look like these messages often enough: fields of all wire types, nested, cut and glued.
FIELD = st.builds(
    lambda tag, body: bytes([tag]) + body,
    st.sampled_from([0x08, 0x0A, 0x0D, 0x09, 0x10, 0x12, 0x1A, 0x20, 0x22, 0x2A, 0x30, 0x3A, 0x0B, 0x0C, 0x00]),
    st.one_of(
        st.binary(max_size=12),
        st.binary(max_size=12).map(lambda data: bytes([len(data)]) + data),
        st.integers(0, 2**64 - 1).map(lambda value: bytes([value & 0x7F])),
    ),
)
HOSTILE = st.one_of(st.binary(max_size=60), st.lists(FIELD, max_size=5).map(b"".join))


def as_request(message: Any) -> Request:
    pairs = tuple((pair.key, pair.value) for pair in message.metadata)
    return Request(message.service, message.method, message.payload, message.timeout_nano, pairs)


def as_response(message: Any) -> Response:
    status = message.status
    ours = RpcStatus(status.code, status.message, tuple(status.details)) if message.HasField("status") else None
    return Response(ours, message.payload)


def has_group(data: bytes) -> bool:
    """Whether a group (wire types 3 and 4), which google.protobuf skips and we refuse, may be in `data`."""
    return any(byte & 7 in (3, 4) for byte in data)


def test_connect_request_is_the_vector_of_the_contract() -> None:
    request = Request("containerd.task.v2.Task", "Connect", b"\x0a\x02c1", 5_000_000_000)

    frame = encode_frame(1, REQUEST, 0, encode_request(request))

    assert frame.hex() == (
        "0000002e0000000101000a17636f6e7461696e6572642e7461736b2e76322e5461736b1207436f6e6e6563741a040a026331"
        "2080e497d012"
    )
    assert decode_request(frame[10:]) == request


def test_connect_response_is_the_vector_of_the_contract() -> None:
    payload = bytes.fromhex("08922110cc211a0132")

    frame = encode_frame(1, RESPONSE, 0, encode_response(payload))

    assert frame.hex() == "0000000b000000010200120908922110cc211a0132"
    assert decode_response(frame[10:]) == Response(None, payload)


def test_error_response_is_the_vector_of_the_contract() -> None:
    status = RpcStatus(5, 'container "c1": not found')

    frame = encode_frame(3, RESPONSE, 0, encode_error(status))

    assert frame.hex() == ("0000001f0000000302000a1d08051219636f6e7461696e657220226331223a206e6f7420666f756e64")
    assert decode_response(frame[10:]) == Response(status)


def test_empty_success_is_the_vector_of_the_contract() -> None:
    assert encode_frame(5, RESPONSE, 0, encode_response(b"")).hex() == "00000000000000050200"
    assert decode_response(b"") == Response()


@given(REQUESTS)
def test_a_request_survives_the_wire_and_is_what_google_protobuf_writes(request: Request) -> None:
    service, method, payload, timeout_nano, metadata = request
    message = GOOGLE["Request"](service=service, method=method, payload=payload, timeout_nano=timeout_nano)
    for key, value in metadata:
        message.metadata.add(key=key, value=value)

    data = encode_request(request)

    assert decode_request(data) == request
    assert data == message.SerializeToString(deterministic=True)


@given(STATUSES)
def test_an_error_survives_the_wire_and_is_what_google_protobuf_writes(status: RpcStatus) -> None:
    message = GOOGLE["Response"]()
    message.status.SetInParent()
    message.status.code, message.status.message = status.code, status.message
    message.status.details.extend(status.details)

    data = encode_error(status)

    assert decode_response(data) == Response(status)
    assert data == message.SerializeToString(deterministic=True)


@given(st.binary(max_size=300))
def test_a_success_survives_the_wire_and_is_what_google_protobuf_writes(payload: bytes) -> None:
    data = encode_response(payload)

    assert decode_response(data) == Response(None, payload)
    assert data == GOOGLE["Response"](payload=payload).SerializeToString()


@pytest.mark.parametrize(
    ("name", "decode", "convert"),
    [("Request", decode_request, as_request), ("Response", decode_response, as_response)],
)
@settings(max_examples=2000)
@given(data=HOSTILE)
def test_hostile_bytes_are_accepted_and_understood_exactly_as_by_google_protobuf(
    name: str, decode: Any, convert: Any, data: bytes
) -> None:
    message = GOOGLE[name]()
    try:
        message.ParseFromString(data)
        expected = convert(message)
    except GoogleDecodeError:
        expected = None

    try:
        decoded = decode(data)
    except DecodeError:
        decoded = None

    if decoded is None and has_group(data):
        return
    assert decoded == expected


def test_a_status_in_two_parts_is_merged() -> None:
    first, second = encode_error(RpcStatus(5, "", (b"a",))), encode_error(RpcStatus(0, "gone", (b"b",)))

    assert decode_response(first + second) == Response(RpcStatus(5, "gone", (b"a", b"b")))


def test_the_last_of_repeated_scalars_wins() -> None:
    assert decode_request(b"\x0a\x01a\x0a\x01b").service == "b"


def test_file_names_that_are_no_utf8_can_be_in_an_error() -> None:
    data = encode_error(RpcStatus(2, "no such file: \udcff"))

    assert decode_response(data).status == RpcStatus(2, "no such file: \\udcff")


@pytest.mark.parametrize("cut", range(1, 46))
def test_a_request_that_breaks_off_is_refused_or_shorter(cut: int) -> None:
    data = encode_request(Request("containerd.task.v2.Task", "Connect", b"\x0a\x02c1", 5_000_000_000))

    if cut in (25, 34, 40):  # between two fields
        assert decode_request(data[:cut]) != decode_request(data)
    else:
        with pytest.raises(DecodeError):
            decode_request(data[:cut])


def test_of_the_details_of_a_status_a_bounded_number_is_kept_in_linear_time() -> None:
    parts = b"\x0a\x04\x1a\x02ab" * 100 + b"\x0a\x06\x08\x05\x1a\x02cd"
    status = b"\x1a\x00" * 1_000_000
    large = b"\x0a" + encode_varint(len(status)) + status
    began = time.monotonic()

    assert decode_response(parts) == Response(RpcStatus(5, "", (b"ab",) * DETAILS_MAX))
    assert decode_response(large) == Response(RpcStatus(0, "", (b"",) * DETAILS_MAX))
    assert time.monotonic() - began < 10
