"""What all lean messages share: comparison, representation, and the entry points of their codec."""

from protos.lean.wire import MAX_MESSAGES, DecodeError, EncodeError, fields, put_bytes, spend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Self, TypeVar

    M = TypeVar("M", bound="Message")


class Message:
    """A message of plain attributes, one per field; None stands for an absent submessage or optional field.

    Generated classes add their fields (`__slots__`), a constructor that takes them by keyword, `_write` and `_merge`.
    Unknown fields are dropped when a message is read.
    """

    __slots__: "tuple[str, ...]" = ()

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's own name
        """The wire form; raises EncodeError for a value that its field cannot carry."""
        out = bytearray()
        try:
            self._write(out)
        except EncodeError as error:
            raise EncodeError(f"{type(self).__name__}: {error}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise EncodeError(f"{type(self).__name__}: {type(error).__name__}: {error}") from error
        return bytes(out)

    @classmethod
    def FromString(cls, data: bytes) -> "Self":  # noqa: N802 - protobuf's own name
        """The message that `data` holds; raises DecodeError for anything but a whole and valid encoding."""
        message = cls()
        try:
            message._merge(data, [MAX_MESSAGES])
        except UnicodeDecodeError as error:
            raise DecodeError(f"string is not UTF-8: {error.reason}") from error
        return message

    def _write(self, out: bytearray) -> None:
        """Append the encoding; a message without fields has none."""

    def _merge(self, data: bytes, budget: list[int]) -> None:
        """Read the fields in `data` into this message: single ones replace, repeated ones extend, messages merge.

        `budget` holds how many more messages may be created. This is the reader of a message without fields.
        """
        for _ in fields(data):
            pass

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = [(name, getattr(self, name)) for name in self.__slots__]
        shown = [f"{name}={value!r}" for name, value in values if value not in (None, 0, "", b"", [], {})]
        return f"{type(self).__name__}({', '.join(shown)})"


def merged(message: "M | None", message_type: "type[M]", data: bytes, budget: list[int]) -> "M":
    """`message`, or a new one in its absence, with the fields in `data` read into it."""
    if message is None:
        spend(budget)
        message = message_type()
    message._merge(data, budget)
    return message


def merge_entry(entries: "dict[str, M]", message_type: "type[M]", data: bytes, budget: list[int]) -> None:
    """Read one entry of a map from strings to messages; the pieces of a value sent in pieces merge."""
    key, message = "", None
    for tag, value in fields(data):
        if tag == 10:
            key = value.decode()
        elif tag == 18:
            message = merged(message, message_type, value, budget)
    entries[key] = message or merged(None, message_type, b"", budget)


def put_message(out: bytearray, tag: bytes, message_type: "type[Message]", message: Message) -> None:
    """Append a submessage."""
    if type(message) is not message_type:
        raise EncodeError(f"a {type(message).__name__} where a {message_type.__name__} belongs")
    body = bytearray()
    message._write(body)
    put_bytes(out, tag, body)


def each(values: "Iterable[Any]") -> "Iterable[Any]":
    """The elements of a repeated field, which a string given by mistake is not."""
    if isinstance(values, str):
        raise EncodeError("a str where a list belongs")
    return values
