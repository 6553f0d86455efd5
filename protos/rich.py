"""The codec of the rich messages: a table per class, compiled on first use from the dataclass fields.

betterproto2 reads truncated and wrongly typed input without complaint, and writes numbers that their field cannot
carry. Here both are errors. It is also several times faster, as it neither evaluates all type hints of a class nor
enters a warnings filter per field.

Kept from betterproto2: unknown fields stay with the message (`_unknown_fields`) and are written back behind the known
ones; enum values without a name become nameless members; absent submessages and optional fields are None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from protos.lean import wire
from protos.lean.wire import EncodeError
from protos.rich_fields import Field, Put


class Table:
    """How one message class is read and written. One instance per class, from `table_of`.

    Its parts are compiled when they are first needed: most messages of a protocol are only read, or only written.
    """

    def __init__(self, message_type: type) -> None:
        self._type = message_type
        definitions = message_type.__dataclass_fields__.values()  # type: ignore[attr-defined]
        self._fields = sorted((Field(message_type, f, table_of) for f in definitions), key=lambda f: f.number)

    @cached_property
    def _shared(self) -> dict[str, Any]:
        """The attributes of a new message whose value can be shared between messages."""
        return {f.name: f.default() for f in self._fields if not f.container} | {"_unknown_fields": b""}

    @cached_property
    def _containers(self) -> list[tuple[str, Callable[[], Any]]]:
        """The attributes of a new message that need a list or dict of their own."""
        return [(f.name, f.default) for f in self._fields if f.container]

    @cached_property
    def _readers(self) -> dict[int, tuple[str, Callable[..., Any], bool]]:
        """By tag: the attribute, a function that takes the raw value, and whether it needs what is there already."""
        return {tag: (f.name, take, folds) for f in self._fields for tag, take, folds in f.readers()}

    @cached_property
    def _writers(self) -> list[tuple[str, Put, bytes, bool]]:
        """In the order of field numbers: the attribute, how it is written, its tag, whether a zero is left out."""
        return [(f.name, f.writer(), f.tag, f.implicit) for f in self._fields]

    def compile(self) -> None:
        """Compile all parts now, for a process that is going to be forked."""
        for part in ("_shared", "_containers", "_readers", "_writers"):
            getattr(self, part)

    def new(self) -> Any:
        """An empty message."""
        message: Any = object.__new__(self._type)
        values = message.__dict__
        values.update(self._shared)
        for name, container in self._containers:
            values[name] = container()
        return message

    def merge(self, message: Any, data: bytes, budget: list[int]) -> None:
        """Read the fields in `data` into `message`: single ones replace, repeated ones extend, messages merge."""
        values, readers = message.__dict__, self._readers
        unknown = bytearray()
        for tag, raw in wire.fields(data):
            reader = readers.get(tag)
            if reader is None:
                unknown += wire.raw_field(tag, raw)
                continue
            name, take, folds = reader
            values[name] = take(values[name], raw, budget) if folds else take(raw)
        if unknown:
            values["_unknown_fields"] += bytes(unknown)

    def write(self, message: Any, out: bytearray) -> None:
        """Append the encoding of `message`; EncodeError names the class and the field at fault."""
        values, name = message.__dict__, ""
        try:
            for name, put, tag, implicit in self._writers:
                value = values[name]
                if value if implicit else value is not None:
                    put(out, tag, value)
        except EncodeError as error:
            raise EncodeError(f"{self._type.__name__}.{name}: {error}") from error
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise EncodeError(f"{self._type.__name__}.{name}: {type(error).__name__}: {error}") from error
        # A dataclass takes an assignment to any attribute: one too many is a misspelt one.
        if len(values) != len(self._writers) + 1:
            surplus = set(values) - set(self._shared) - {f.name for f in self._fields}
            raise EncodeError(f"{self._type.__name__} has no field {', '.join(sorted(surplus))}")
        out += values["_unknown_fields"]


_tables: dict[type, Table] = {}


def table_of(message_type: type) -> Table:
    """The table of a message class; TypeError for a class that is none."""
    table = _tables.get(message_type)
    if table is None:
        if not hasattr(message_type, "__dataclass_fields__"):
            raise TypeError(f"{message_type.__name__} is not a message class")
        table = _tables[message_type] = Table(message_type)
    return table


def encode(message: Any) -> bytes:
    """The wire form of a rich message; raises EncodeError."""
    out = bytearray()
    table_of(type(message)).write(message, out)
    return bytes(out)


def decode(message_type: type, data: bytes) -> Any:
    """The rich message that `data` holds; raises wire.DecodeError."""
    table = table_of(message_type)
    message = table.new()
    try:
        table.merge(message, data, [wire.MAX_MESSAGES])
    except UnicodeDecodeError as error:
        raise wire.DecodeError(f"string is not UTF-8: {error.reason}") from error
    return message
