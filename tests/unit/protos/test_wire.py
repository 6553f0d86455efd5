"""The wire format: what it allows is read, what it forbids is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.lean import wire
from protos.lean.wire import DecodeError, EncodeError

_GROUP = bytes.fromhex("0b 08 01 0c")


@given(st.integers(0, 2**64 - 1))
def test_varints_of_64_bits_survive(value):
    out = bytearray()
    wire.put_varint(out, value)
    assert wire.varint(bytes(out), 0) == (value, len(out))


@given(st.integers(0, 127), st.integers(1, 9))
def test_padded_varints_of_up_to_ten_bytes_are_read(value, padding):
    data = bytes([value | 0x80]) + b"\x80" * (padding - 1) + b"\x00"
    assert wire.varint(data, 0) == (value, len(data))


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_packed_numbers_survive(values):
    body = bytearray()
    for value in values:
        wire.put_varint(body, value)
    assert wire.packed(bytes(body)) == values


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", []),
        ("08 96 01", [(8, 150)]),
        ("08 ff ff ff ff ff ff ff ff ff 01", [(8, 2**64 - 1)]),
        ("12 02 68 69", [(18, b"hi")]),
        ("12 82 00 68 69", [(18, b"hi")]),
        ("09 01 02 03 04 05 06 07 08", [(9, bytes(range(1, 9)))]),
        ("0d 01 02 03 04", [(13, bytes(range(1, 5)))]),
        ("0b 08 01 0c 10 01", [(11, bytes.fromhex("08010c")), (16, 1)]),
        ("0b 0b 0c 12 01 0c 0c", [(11, bytes.fromhex("0b0c12010c0c"))]),
        ("f8 ff ff ff 0f 01", [(0xFFFFFFF8, 1)]),
    ],
)
def test_valid_fields_are_yielded_whole(text, fields):
    data = bytes.fromhex(text)
    assert list(wire.fields(data)) == fields


@given(st.lists(st.sampled_from([(8, 7), (18, b"x" * 200), (13, b"1234"), (9, b"12345678"), (11, b"\x0c")])))
def test_raw_fields_are_what_was_read(expected):
    data = b"".join(wire.raw_field(tag, value) for tag, value in expected)
    assert list(wire.fields(data)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("08", "inside a field"),
        ("80", "inside a field"),
        ("08 80", "inside a field"),
        ("12", "inside a field"),
        ("12 05 61 62", "truncated"),
        ("12 ff ff ff ff 0f 61", "truncated"),
        ("09 01 02 03", "truncated"),
        ("0d 01 02 03", "truncated"),
        ("00 00", "field number 0"),
        ("02 00", "field number 0"),
        ("80 00 01", "field number 0"),
        ("0c", "wire type 4"),
        ("0e", "wire type 6"),
        ("0f", "wire type 7"),
        ("0b", "inside a field"),
        ("0b 08", "inside a field"),
        ("0b 14", "closed by field 2"),
        ("0b 00 00 0c", "field number 0"),
        ("0b 0e 0c", "wire type 6"),
        ("0b 12 05 0c", "inside a field"),
        ("0b 09 0c", "inside a field"),
        ("08 80 80 80 80 80 80 80 80 80 80 00", "more than 64 bits"),
        ("08 ff ff ff ff ff ff ff ff ff 02", "more than 64 bits"),
        ("88 80 80 80 80 00 01", "more than 32 bits"),
        ("f8 ff ff ff 1f 01", "more than 32 bits"),
        ("12 80 80 80 80 10", "more than 32 bits"),
        ("12 82 80 80 80 80 00 61 61", "more than 32 bits"),
    ],
)
def test_forbidden_bytes_are_an_error_with_its_reason(text, reason):
    with pytest.raises(DecodeError, match=reason):
        list(wire.fields(bytes.fromhex(text)))


def test_groups_may_nest_as_deep_as_protobuf_allows_and_no_deeper():
    depth = wire.MAX_GROUP_DEPTH
    assert len(list(wire.fields(b"\x0b" * depth + b"\x0c" * depth))) == 1
    with pytest.raises(DecodeError, match="nest deeper"):
        list(wire.fields(b"\x0b" * (depth + 1) + b"\x0c" * (depth + 1)))


@pytest.mark.parametrize("text", ["80", "01 80", "ff ff"])
def test_a_packed_field_that_ends_inside_a_number_is_an_error(text):
    with pytest.raises(DecodeError, match="inside a varint"):
        wire.packed(bytes.fromhex(text))


@pytest.mark.parametrize(
    ("put", "value"),
    [
        (wire.put_uint32, -1),
        (wire.put_uint32, 2**32),
        (wire.put_uint64, -1),
        (wire.put_uint64, 2**64),
        (wire.put_int32, 2**31),
        (wire.put_int32, -(2**31) - 1),
        (wire.put_int64, 2**63),
        (wire.put_int64, -(2**63) - 1),
        (wire.put_bool, 2),
        (wire.put_bool, "no"),
    ],
)
def test_numbers_out_of_range_are_not_written(put, value):
    out = bytearray()
    with pytest.raises(EncodeError, match="is not a"):
        put(out, b"\x08", value)
    assert not out


@pytest.mark.parametrize(
    ("convert", "raw", "value"),
    [
        (wire.int32, 2**64 - 1, -1),
        (wire.int32, 2**31, -(2**31)),
        (wire.int32, 2**32 + 5, 5),
        (wire.uint32, 2**32 + 5, 5),
        (wire.int64, 2**64 - 62_135_596_800, -62_135_596_800),
    ],
)
def test_numbers_are_narrowed_as_protobuf_does(convert, raw, value):
    assert convert(raw) == value
