"""Frames: a 10-byte header and a payload of at most 4 MiB, and the parser that finds them in a byte stream.

ttrpc's PROTOCOL.md: big endian length of the payload (4 bytes), stream id (4), type (1), flags (1). Any ten bytes are a
valid header, so a byte stream can't get out of step; a payload above the limit is skipped as it arrives and reported.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER = struct.Struct(">IIBB")
HEADER_LENGTH = HEADER.size
#: Largest payload of a frame, in bytes, in both directions.
MESSAGE_MAX = 4 << 20

REQUEST = 1
RESPONSE = 2
DATA = 3

#: The sender of the frame sends nothing more on this stream.
REMOTE_CLOSED = 0x01
#: The sender of the request goes on to send data frames.
REMOTE_OPEN = 0x02
#: The data frame carries no message; without it, an empty payload is an empty message.
NO_DATA = 0x04


class Frame(NamedTuple):
    """One frame as received."""

    stream_id: int
    type: int
    flags: int
    payload: bytes


class Oversized(NamedTuple):
    """A frame whose payload of `length` bytes is above the limit and is thrown away."""

    stream_id: int
    type: int
    length: int


def encode_frame(stream_id: int, frame_type: int, flags: int, payload: bytes) -> bytes:
    """Return the bytes of a frame. `payload` is at most `MESSAGE_MAX` long: the caller has checked."""
    return HEADER.pack(len(payload), stream_id, frame_type, flags) + payload


class FrameParser:
    """Cuts a byte stream, in whatever pieces it arrives, into frames.

    Holds at most one frame that is not yet complete, so never more than 4 MiB and one piece.
    """

    __slots__ = ("_buffer", "_discard", "_needed")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = HEADER_LENGTH
        self._discard = 0

    @property
    def mid_frame(self) -> bool:
        """Whether the stream would break off inside a frame if it ended now."""
        return bool(self._buffer or self._discard)

    def feed(self, data: bytes) -> list[Frame | Oversized]:
        """Take the next piece of the stream; return what it completes, in order.

        An oversized frame is reported as soon as its header is there, before its payload has passed.
        """
        if self._discard:
            skipped = min(self._discard, len(data))
            self._discard -= skipped
            data = data[skipped:]
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        return self._split(data)

    def _split(self, data: bytes) -> list[Frame | Oversized]:
        """Return the frames at the start of `data` and keep the rest."""
        frames: list[Frame | Oversized] = []
        position, end = 0, len(data)
        self._needed = HEADER_LENGTH
        while end - position >= HEADER_LENGTH:
            length, stream_id, frame_type, flags = HEADER.unpack_from(data, position)
            start = position + HEADER_LENGTH
            stop = start + length
            if length > MESSAGE_MAX:
                frames.append(Oversized(stream_id, frame_type, length))
                self._discard = max(stop - end, 0)
                position = min(stop, end)
                continue
            if stop > end:
                self._needed = stop - position
                break
            frames.append(Frame(stream_id, frame_type, flags, data[start:stop]))
            position = stop
        self._buffer += data[position:]
        return frames
