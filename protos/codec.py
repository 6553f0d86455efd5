"""One encode and one strict decode for rich and lean messages, and the codec that the transport takes.

Both flavours of a message have the same wire form; which one is meant is seen from the class.
"""

from __future__ import annotations

from typing import Any, TypeVar

from protos.lean import wire
from protos.lean.message import Message as LeanMessage
from protos.lean.wire import EncodeError
from ttrpc.codec import DecodeError

__all__ = ["DecodeError", "EncodeError", "MessageCodec", "decode", "encode"]

T = TypeVar("T")


def encode(message: Any) -> bytes:
    """The wire form of a message.

    Raises EncodeError, naming class and field, for a value that its field cannot carry or an attribute that is no
    field; TypeError for an object that is no message.
    """
    if isinstance(message, LeanMessage):
        return message.SerializeToString()
    from protos import rich

    return rich.encode(message)


def decode(message_type: type[T], data: bytes | bytearray | memoryview) -> T:
    """The message of `message_type` that `data` holds.

    Raises DecodeError, naming the class, for anything that is not a whole and valid encoding; unknown fields and
    unknown enum values are valid.
    """
    message: T
    try:
        if issubclass(message_type, LeanMessage):
            message = message_type.FromString(bytes(data))
        else:
            from protos import rich

            message = rich.decode(message_type, bytes(data))
    except wire.DecodeError as error:
        raise DecodeError(f"{message_type.__name__}: {error}") from error
    return message


class MessageCodec:
    """The codec for ttrpc channels and servers (`ttrpc.codec.Codec`)."""

    def encode(self, message: Any) -> bytes:
        """See `encode`."""
        return encode(message)

    def decode(self, message_type: type[T], data: bytes) -> T:
        """See `decode`."""
        return decode(message_type, data)
