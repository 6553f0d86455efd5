"""The handshake on a virtio-serial port, and noticing that a new host begins one. Pure.

A port is a bare stream of bytes without connections: what a former host sent may still be in it, and a new host may
come before the agent has noticed that the old one went. So each session opens with 16 zero bytes and a line

    KATA-AGENT 1 <nonce: 32 hexadecimal digits>\n

which the agent answers with `OK <nonce>\n`. A new preamble inside of a session shows in two ways: at a frame's start
its zeros are a header with stream id 0, which no client of ttrpc sends; in the middle of a frame that its sender
never completed it is what the stream ends with while the frame still lacks bytes.
"""

from __future__ import annotations

import re

PREFIX = bytes(16) + b"KATA-AGENT 1 "
NONCE_LENGTH = 32
LENGTH = len(PREFIX) + NONCE_LENGTH + 1
_PATTERN = re.compile(re.escape(PREFIX) + rb"([0-9a-f]{32})\n")
_HEADER_LENGTH = 10


class PreambleScanner:
    """Looks for a preamble in a stream, keeping no more of it than one preamble is long."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take the next bytes; the nonce and what followed the preamble once there is one. The last one counts."""
        window = self._tail + data
        matches = list(_PATTERN.finditer(window))
        if not matches:
            self._tail = window[-(LENGTH - 1) :]
            return None
        found = matches[-1]
        self._tail = b""
        return found.group(1), window[found.end() :]


class FrameTracker:
    """Follows a ttrpc stream without keeping it: frames of length (4 bytes, big-endian), stream id (4), type, flags."""

    __slots__ = ("_header", "_payload")

    def __init__(self) -> None:
        self._header = b""
        self._payload = 0

    @property
    def mid_payload(self) -> bool:
        """Whether the stream has stopped inside a frame's payload."""
        return self._payload > 0

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; False if a frame begins that is none of ttrpc's."""
        position = 0
        while position < len(data):
            if self._payload:
                skipped = min(self._payload, len(data) - position)
                self._payload -= skipped
                position += skipped
                continue
            missing = _HEADER_LENGTH - len(self._header)
            self._header += data[position : position + missing]
            position += missing
            if len(self._header) == _HEADER_LENGTH:
                if not any(self._header[4:8]):
                    return False
                self._payload = int.from_bytes(self._header[:4], "big")
                self._header = b""
        return True


def answer(nonce: bytes) -> bytes:
    """What the agent says to a preamble."""
    return b"OK " + nonce + b"\n"


def ends_with_preamble(tail: bytes) -> bool:
    """Whether the stream's last bytes are a whole preamble."""
    return _PATTERN.fullmatch(tail[-LENGTH:]) is not None
