"""Protobuf's wire format, strict and bounded: the ground that both message flavours stand on.

Reading yields whole fields (`fields`), so nothing above this module sees a position in a buffer. Everything that the
format forbids raises `DecodeError`: a field that ends beyond its message, a varint of more than 64 bits, field
number 0, an unknown wire type, a group that is not closed. What the format allows is kept: unknown fields are yielded
like known ones, overlong (padded) varints of up to ten bytes are read.

The rules are those of https://protobuf.dev/programming-guides/encoding/.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

VARINT = 0
FIXED64 = 1
LENGTH = 2
GROUP = 3
GROUP_END = 4
FIXED32 = 5

# A frame of 4 MiB could hold two million empty submessages, which would take a gigabyte of memory.
MAX_MESSAGES = 1 << 16
# No protocol spoken here uses groups; they are skipped as unknown fields, to the depth that protobuf allows.
MAX_GROUP_DEPTH = 100

_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF
_SHIFTS = (7, 14, 21, 28, 35, 42, 49, 56, 63)


class DecodeError(ValueError):
    """Bytes that are not a valid encoding of the message they were read as."""


class EncodeError(ValueError):
    """A message that holds a value its field cannot carry: out of range, or of the wrong type."""


def varint(data: bytes, pos: int) -> tuple[int, int]:
    """Read the varint at `pos`: its value (unsigned, 64 bits) and the position behind it.

    Raises IndexError where `data` ends first, DecodeError beyond 64 bits.
    """
    byte = data[pos]
    pos += 1
    if byte < 0x80:
        return byte, pos
    result = byte & 0x7F
    for shift in _SHIFTS:
        byte = data[pos]
        pos += 1
        if byte < 0x80:
            result |= byte << shift
            if result > _MASK64:
                break
            return result, pos
        result |= (byte & 0x7F) << shift
    raise DecodeError("varint of more than 64 bits")


def short_varint(data: bytes, pos: int) -> tuple[int, int]:
    """Like `varint`, for a tag or a length: at most 32 bits, in at most five bytes."""
    value, stop = varint(data, pos)
    if value > _MASK32 or stop - pos > 5:
        raise DecodeError("tag or length of more than 32 bits")
    return value, stop


def fields(data: bytes) -> "Iterator[tuple[int, Any]]":
    """Yield each field of a message as (tag, value), the tag being `number << 3 | wire type`.

    The value is an unsigned int for varints, else the field's bytes without their length prefix; for a group, all
    bytes up to and including its end tag.
    """
    pos, end = 0, len(data)
    try:
        while pos < end:
            tag = data[pos]
            pos += 1
            if tag > 127:
                tag, pos = short_varint(data, pos - 1)
            if tag < 8:
                raise DecodeError("field number 0")
            wire = tag & 7
            if wire == LENGTH:
                size = data[pos]
                pos += 1
                if size > 127:
                    size, pos = short_varint(data, pos - 1)
                stop = pos + size
            elif wire == VARINT:
                value = data[pos]
                pos += 1
                if value > 127:
                    value, pos = varint(data, pos - 1)
                yield tag, value
                continue
            else:
                stop = _stop(data, pos, tag)
            if stop > end:
                raise DecodeError(f"field {tag >> 3} is truncated")
            yield tag, data[pos:stop]
            pos = stop
    except IndexError:
        raise DecodeError("message ends inside a field") from None


def _stop(data: bytes, pos: int, tag: int) -> int:
    """Where the fixed-size field or group that starts at `pos` ends; may lie beyond the data."""
    wire = tag & 7
    if wire == FIXED64:
        return pos + 8
    if wire == FIXED32:
        return pos + 4
    if wire == GROUP:
        return _group_stop(data, pos, tag >> 3)
    raise DecodeError(f"field {tag >> 3} has wire type {wire}, which is out of place")


def _group_stop(data: bytes, pos: int, number: int) -> int:
    """The position behind the end tag of the group `number` whose content starts at `pos`."""
    open_groups = [number]
    while open_groups:
        tag, pos = short_varint(data, pos)
        wire = tag & 7
        if tag < 8:
            raise DecodeError("field number 0")
        if wire == GROUP_END:
            if open_groups.pop() != tag >> 3:
                raise DecodeError(f"group {number} is closed by field {tag >> 3}")
        elif wire == GROUP:
            if len(open_groups) >= MAX_GROUP_DEPTH:
                raise DecodeError(f"groups nest deeper than {MAX_GROUP_DEPTH}")
            open_groups.append(tag >> 3)
        elif wire == VARINT:
            _, pos = varint(data, pos)
        elif wire == LENGTH:
            size, pos = short_varint(data, pos)
            pos += size
        else:
            pos = _stop(data, pos, tag)
    return pos


def raw_field(tag: int, value: "int | bytes") -> bytes:
    """The wire form of one field as `fields` yielded it."""
    out = bytearray()
    put_varint(out, tag)
    if isinstance(value, int):
        put_varint(out, value)
        return bytes(out)
    if tag & 7 == LENGTH:
        put_varint(out, len(value))
    out += value
    return bytes(out)


def spend(budget: list[int]) -> None:
    """Count one more message against what one decode may create."""
    budget[0] -= 1
    if budget[0] < 0:
        raise DecodeError(f"more than {MAX_MESSAGES} messages within one")


def uint32(value: int) -> int:
    """The low 32 bits of a varint, which is how protobuf narrows."""
    return value & _MASK32


def int32(value: int) -> int:
    """The low 32 bits of a varint as a signed number."""
    value &= _MASK32
    return value - 0x100000000 if value > 0x7FFFFFFF else value


def int64(value: int) -> int:
    """A varint as a signed number."""
    return value - 0x10000000000000000 if value > 0x7FFFFFFFFFFFFFFF else value


def packed(data: bytes) -> list[int]:
    """The varints of a packed repeated field, unsigned."""
    if data.isascii():
        return list(data)
    values, pos, end = [], 0, len(data)
    try:
        while pos < end:
            value, pos = varint(data, pos)
            values.append(value)
    except IndexError:
        raise DecodeError("packed field ends inside a varint") from None
    return values


def map_entry(data: bytes, value_tag: int, convert: "Callable[[Any], Any]", zero: "Any") -> "tuple[str, Any]":
    """Key and value of one entry of a map from strings to scalars; `zero` is the value of an entry without one."""
    key, value = "", zero
    for tag, item in fields(data):
        if tag == 10:
            key = item.decode()
        elif tag == value_tag:
            value = convert(item)
    return key, value


def put_varint(out: bytearray, value: int) -> None:
    """Append an unsigned number."""
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def put_bytes(out: bytearray, tag: bytes, value: "bytes | bytearray") -> None:
    """Append a length-delimited field."""
    out += tag
    size = len(value)
    if size < 128:
        out.append(size)
    else:
        put_varint(out, size)
    out += value


def put_text(out: bytearray, tag: bytes, value: str) -> None:
    """Append a string field; a lone surrogate raises UnicodeEncodeError."""
    put_bytes(out, tag, value.encode())


def put_bool(out: bytearray, tag: bytes, value: bool) -> None:
    """Append a bool field."""
    if value not in (False, True):
        raise EncodeError(f"{value!r} is not a bool")
    out += tag
    out.append(value)


def put_uint32(out: bytearray, tag: bytes, value: int) -> None:
    """Append a uint32 field."""
    if not 0 <= value <= _MASK32:
        raise EncodeError(f"{value} is not a uint32")
    out += tag
    put_varint(out, value)


def put_uint64(out: bytearray, tag: bytes, value: int) -> None:
    """Append a uint64 field."""
    if not 0 <= value <= _MASK64:
        raise EncodeError(f"{value} is not a uint64")
    out += tag
    put_varint(out, value)


def put_int32(out: bytearray, tag: bytes, value: int) -> None:
    """Append an int32 or enum field; a negative number takes ten bytes, as protobuf demands."""
    if not -0x80000000 <= value <= 0x7FFFFFFF:
        raise EncodeError(f"{value} is not an int32")
    out += tag
    put_varint(out, value & _MASK64)


def put_int64(out: bytearray, tag: bytes, value: int) -> None:
    """Append an int64 field."""
    if not -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        raise EncodeError(f"{value} is not an int64")
    out += tag
    put_varint(out, value & _MASK64)
