"""The fields of a rich message class: each kind of field, and the functions that read and write it.

Only the kinds that occur in `protos/src` exist; any other raises NotImplementedError when its class is first used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from struct import Struct
from typing import Any, Protocol

from protos.lean import wire
from protos.lean.wire import EncodeError

Convert = Callable[[Any], Any]
Fold = Callable[[Any, Any, list[int]], Any]
Put = Callable[[bytearray, bytes, Any], None]
# A tag, a function, and whether that is a Fold (takes what is there already, and the budget) or a Convert.
Reader = tuple[int, Convert | Fold, bool]

_DOUBLE = Struct("<d")


class MessageTable(Protocol):
    """What a field needs of the table of another message class."""

    def new(self) -> Any:
        """An empty message."""

    def merge(self, message: Any, data: bytes, budget: list[int]) -> None:
        """Read `data` into a message."""

    def write(self, message: Any, out: bytearray) -> None:
        """Append the encoding of a message."""


class Field:
    """One dataclass field with its protobuf metadata; `tables` gives the table of any message class."""

    def __init__(self, owner: type, definition: Any, tables: Callable[[type], MessageTable]) -> None:
        meta = definition.metadata["betterproto"]
        self.name: str = definition.name
        self.number: int = meta.number
        self.default: Callable[[], Any] = definition.default_factory
        self.container = self.default in (list, dict)
        self._kind: str = meta.proto_type
        self._repeated = bool(meta.repeated)
        self._packed = self._repeated and self._kind in _VARINTS
        self._map_kind: str = meta.map_meta[1].proto_type if meta.map_meta else ""
        # A field with presence is sent whenever it is set; a double decides by its bits, for the sake of -0.0.
        self.implicit = self.container or not (meta.optional or meta.group or self._kind == "double")
        self._owner, self._annotation, self._tables = owner, definition.type, tables
        if self._kind not in _WIRE_TYPES or (self._kind == "double" and (self._repeated or meta.optional)):
            raise NotImplementedError(f"{owner.__name__}.{self.name}: no codec for this use of {self._kind}")

    @property
    def tag(self) -> bytes:
        """The tag under which the field is written."""
        return _tag(self.number, wire.LENGTH if self._packed else _WIRE_TYPES[self._kind])

    def readers(self) -> list[Reader]:
        """Each tag under which the field may arrive, with what to do then."""
        number, own = self.number << 3, self.number << 3 | _WIRE_TYPES[self._kind]
        if self._kind == "map":
            return [(own, self._map_fold(), True)]
        if self._kind == "message":
            fold = _append_message if self._repeated else _merge_message
            return [(own, fold(self._tables(self._class())), True)]
        convert = self._converter(self._kind)
        if not self._repeated:
            return [(own, convert, False)]
        packed = [(number | wire.LENGTH, _extend_packed(convert), True)] if self._packed else []
        return [(own, _append(convert), True), *packed]

    def writer(self) -> Put:
        """The function that appends the field, tag included."""
        if self._kind == "map":
            value_tag = _tag(2, _WIRE_TYPES[self._map_kind])
            return _put_map(self._single_writer(self._map_kind), value_tag)
        put = self._single_writer(self._kind)
        if self._packed:
            return _put_packed(put)
        return _put_each(put) if self._repeated else put

    def _single_writer(self, kind: str) -> Put:
        if kind == "message":
            message_type = self._class()
            return _put_message(message_type, self._tables(message_type))
        return _PUTS[kind]

    def _converter(self, kind: str) -> Convert:
        return _enum_converter(self._class()) if kind == "enum" else _CONVERTERS[kind]

    def _map_fold(self) -> Fold:
        if self._map_kind == "message":
            return _fold_message_entry(self._tables(self._class()))
        value_tag = 2 << 3 | _WIRE_TYPES[self._map_kind]
        return _fold_entry(value_tag, self._converter(self._map_kind), _ZEROS[self._map_kind])

    def _class(self) -> type:
        """The message or enum class that the annotation names; evaluating all of them is what makes others slow."""
        inner = self._annotation.removesuffix(" | None")
        if inner.startswith(("list[", "dict[")):
            inner = inner[5:-1].rpartition(", ")[2]
        head, *rest = inner.split(".")
        found: type = reduce(getattr, rest, vars(sys.modules[self._owner.__module__])[head])
        return found


def _tag(number: int, wire_type: int) -> bytes:
    out = bytearray()
    wire.put_varint(out, number << 3 | wire_type)
    return bytes(out)


def _enum_converter(enum: Any) -> Convert:
    """Calling an IntEnum is slow: look known members up, call it for the others."""
    members = enum._value2member_map_

    def convert(raw: int) -> Any:
        value = wire.int32(raw)
        return members[value] if value in members else enum(value)

    return convert


def _double(raw: bytes) -> float:
    value: float = _DOUBLE.unpack(raw)[0]
    return value


def _append(convert: Convert) -> Fold:
    def fold(values: list[Any], raw: Any, _budget: list[int]) -> list[Any]:
        values.append(convert(raw))
        return values

    return fold


def _extend_packed(convert: Convert) -> Fold:
    def fold(values: list[Any], raw: bytes, _budget: list[int]) -> list[Any]:
        values.extend(map(convert, wire.packed(raw)))
        return values

    return fold


def _merge_message(table: MessageTable) -> Fold:
    def fold(message: Any, raw: bytes, budget: list[int]) -> Any:
        if message is None:
            wire.spend(budget)
            message = table.new()
        table.merge(message, raw, budget)
        return message

    return fold


def _append_message(table: MessageTable) -> Fold:
    def fold(messages: list[Any], raw: bytes, budget: list[int]) -> list[Any]:
        wire.spend(budget)
        message = table.new()
        table.merge(message, raw, budget)
        messages.append(message)
        return messages

    return fold


def _fold_entry(value_tag: int, convert: Convert, zero: Any) -> Fold:
    def fold(entries: dict[str, Any], raw: bytes, _budget: list[int]) -> dict[str, Any]:
        key, value = wire.map_entry(raw, value_tag, convert, zero)
        entries[key] = value
        return entries

    return fold


def _fold_message_entry(table: MessageTable) -> Fold:
    def fold(entries: dict[str, Any], raw: bytes, budget: list[int]) -> dict[str, Any]:
        wire.spend(budget)
        key, message = "", table.new()
        for tag, item in wire.fields(raw):
            if tag == 10:
                key = item.decode()
            elif tag == 18:
                table.merge(message, item, budget)
        entries[key] = message
        return entries

    return fold


def _put_double(out: bytearray, tag: bytes, value: float) -> None:
    raw = _DOUBLE.pack(value)
    if any(raw):
        out += tag
        out += raw


def _put_message(message_type: type, table: MessageTable) -> Put:
    def put(out: bytearray, tag: bytes, value: Any) -> None:
        if type(value) is not message_type:
            raise EncodeError(f"a {type(value).__name__} where a {message_type.__name__} belongs")
        body = bytearray()
        table.write(value, body)
        wire.put_bytes(out, tag, body)

    return put


def _put_each(put_one: Put) -> Put:
    def put(out: bytearray, tag: bytes, values: list[Any]) -> None:
        if not isinstance(values, (list, tuple)):
            raise EncodeError(f"a {type(values).__name__} where a list belongs")
        for value in values:
            put_one(out, tag, value)

    return put


def _put_packed(put_one: Put) -> Put:
    def put(out: bytearray, tag: bytes, values: list[int]) -> None:
        body = bytearray()
        for value in values:
            put_one(body, b"", value)
        wire.put_bytes(out, tag, body)

    return put


def _put_map(put_value: Put, value_tag: bytes) -> Put:
    def put(out: bytearray, tag: bytes, entries: dict[str, Any]) -> None:
        for key, value in entries.items():
            body = bytearray()
            wire.put_text(body, b"\n", key)
            put_value(body, value_tag, value)
            wire.put_bytes(out, tag, body)

    return put


_VARINTS = ("bool", "enum", "int32", "int64", "uint32", "uint64")
_WIRE_TYPES = {
    **dict.fromkeys(_VARINTS, wire.VARINT),
    **dict.fromkeys(("string", "bytes", "message", "map"), wire.LENGTH),
    "double": wire.FIXED64,
}
_CONVERTERS: dict[str, Convert] = {
    "bool": bool,
    "bytes": bytes,
    "double": _double,
    "int32": wire.int32,
    "int64": wire.int64,
    "string": bytes.decode,
    "uint32": wire.uint32,
    "uint64": int,
}
# The values that an entry of a map may leave out.
_ZEROS: dict[str, Any] = {"string": "", "uint64": 0}
_PUTS: dict[str, Put] = {
    "bool": wire.put_bool,
    "bytes": wire.put_bytes,
    "double": _put_double,
    "enum": wire.put_int32,
    "int32": wire.put_int32,
    "int64": wire.put_int64,
    "string": wire.put_text,
    "uint32": wire.put_uint32,
    "uint64": wire.put_uint64,
}
