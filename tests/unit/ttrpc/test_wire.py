"""Varints, fields, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrpc.codec import DecodeError
from ttrpc.wire import decode_text, encode_bytes, encode_varint, fields, signed


@given(st.integers(0, 2**64 - 1))
def test_a_varint_survives_the_wire(value: int) -> None:
    assert list(fields(b"\x08" + encode_varint(value))) == [(8, value)]


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_signed_varint_survives_the_wire(value: int) -> None:
    ((_, raw),) = fields(b"\x08" + encode_varint(value))

    assert signed(raw, 64) == value


def test_signed_takes_the_low_bits() -> None:
    assert (signed(2**64 - 1, 32), signed(2**31, 32), signed(7, 32), signed(2**63, 64)) == (-1, -(2**31), 7, -(2**63))


def test_fixed_width_fields_are_skipped() -> None:
    data = b"\x09" + bytes(8) + b"\x0d" + bytes(4) + encode_bytes(0x12, b"x")

    assert list(fields(data)) == [(0x12, b"x")]


def test_large_field_numbers_are_read() -> None:
    tag = (2**29 - 1) << 3
    assert list(fields(encode_varint(tag) + b"\x01")) == [(tag, 1)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x05abc", "field 1 of 5 bytes is cut off after 3"),
        (b"\x0a", "a varint is cut off"),
        (b"\x08\x80", "a varint is cut off"),
        (b"\x80", "a varint is cut off"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "a varint is longer than 10 bytes"),
        (b"\x00\x01", "invalid tag 0"),
        (b"\x07\x01", "invalid tag 7"),
        (b"\x80\x80\x80\x80\x10\x01", "invalid tag 4294967296"),
        (b"\x09\x00", "field 1 is cut off"),
        (b"\x0d\x00", "field 1 is cut off"),
        (b"\x0b\x0c", "field 1 has the unsupported wire type 3"),
        (b"\x0e", "field 1 has the unsupported wire type 6"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "is cut off after 0"),
    ],
)
def test_malformed_input_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        list(fields(data))


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(DecodeError, match="not UTF-8: invalid start byte at byte 1"):
        decode_text(b"a\xff")
