"""The part of protobuf's wire format that the envelopes need: varints, length-delimited fields, and skipping the rest.

Strict: what breaks off, overruns or has no valid tag is a `DecodeError`. A field of a known number but another wire
type counts as unknown, as in google.protobuf. Groups, which proto3 has not, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ttrpc.codec import DecodeError

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_TAG_MAX = 0xFFFFFFFF
_SIGN = {32: 1 << 31, 64: 1 << 63}


def encode_varint(value: int) -> bytes:
    """Return `value`, an integer of up to 64 bits; a negative one as its two's complement of 64 bits."""
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_bytes(tag: int, value: bytes) -> bytes:
    """Return a length-delimited field; `tag` is its one-byte tag. proto3: an empty one is the caller's to leave out."""
    return bytes((tag,)) + encode_varint(len(value)) + value


def decode_text(value: bytes) -> str:
    """Return `value` as a proto3 string, which is valid UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise DecodeError(f"string field is not UTF-8: {exc.reason} at byte {exc.start}") from exc


def signed(value: int, bits: int) -> int:
    """Return the low `bits` (32 or 64) of a varint as a two's complement number."""
    sign = _SIGN[bits]
    return (value & (2 * sign - 1) ^ sign) - sign


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield each field's tag (number and wire type) and value, in order.

    The tag tells the value's type: `int` for a varint, `bytes` for a length-delimited field. Fixed-width fields are
    skipped: no envelope has one.
    """
    position, end = 0, len(data)
    while position < end:
        tag = data[position]
        position += 1
        if not 8 <= tag < 0x80:
            tag, position = _tag(data, position - 1)
        wire_type = tag & 7
        if wire_type == _LENGTH_DELIMITED:
            length, position = _varint(data, position)
            stop = position + length
            if stop > end:
                raise DecodeError(f"field {tag >> 3} of {length} bytes is cut off after {end - position}")
            yield tag, data[position:stop]
            position = stop
        elif wire_type == _VARINT:
            value, position = _varint(data, position)
            yield tag, value
        else:
            position = _skip_fixed(tag, position, end)


def _tag(data: bytes, position: int) -> tuple[int, int]:
    """Return the tag at `position`, and the position after it."""
    tag, position = _varint(data, position)
    if not 8 <= tag <= _TAG_MAX:
        raise DecodeError(f"invalid tag {tag}")
    return tag, position


def _skip_fixed(tag: int, position: int, end: int) -> int:
    """Return the position after a fixed-width field."""
    wire_type = tag & 7
    if wire_type not in (_FIXED32, _FIXED64):
        raise DecodeError(f"field {tag >> 3} has the unsupported wire type {wire_type}")
    position += 4 if wire_type == _FIXED32 else 8
    if position > end:
        raise DecodeError(f"field {tag >> 3} is cut off")
    return position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the varint at `position`, cut to 64 bits, and the position after it."""
    try:
        byte = data[position]
        if byte < 0x80:
            return byte, position + 1
        value = byte & 0x7F
        for shift in range(7, 70, 7):
            position += 1
            byte = data[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, position + 1
    except IndexError:
        raise DecodeError("a varint is cut off") from None
    raise DecodeError("a varint is longer than 10 bytes")
