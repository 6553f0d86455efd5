"""What goes between the daemon and its worker: JSON with a length before it, and descriptors beside it.

Standard library only.
"""

from __future__ import annotations

import json
import struct
from typing import Any

#: Above any scan: 4096 routes are half a megabyte.
MAX_MESSAGE = 4 << 20
#: The kernel's own limit for one message (SCM_MAX_FD).
MAX_FDS = 253
_LENGTH = struct.Struct("=I")
HEADER_SIZE = _LENGTH.size


def pack(value: dict[str, Any]) -> bytes:
    """A message."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """How long the message behind this header is; raises `ValueError` for one that nobody sends."""
    length: int = _LENGTH.unpack(header)[0]
    if length > MAX_MESSAGE:
        raise ValueError(f"a message of {length} bytes is too long")
    return length


def unpack(body: bytes) -> dict[str, Any]:
    """The message; raises `ValueError`."""
    return dict(json.loads(body))
