"""What this package asks of whoever knows the messages: bytes from a message, a message from bytes."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class DecodeError(ValueError):
    """The bytes are not a valid encoding of the wanted message; the text says why, in one line."""


class Codec(Protocol):
    """Encodes and decodes the messages of all services on a connection."""

    def encode(self, message: Any) -> bytes:
        """Return the protobuf encoding of `message`."""

    def decode(self, message_type: type[T], data: bytes) -> T:
        """Return the message of `message_type` that `data` encodes; raise `DecodeError` when it does not."""
