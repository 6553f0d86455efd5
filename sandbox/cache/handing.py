"""The words of the hand-over, and what both of its ends agree about.

    receiver: <token>\\n            what GetBaseVM gave it
    giver:    <facts as JSON>\\n    with the descriptors beside its first byte
    receiver: taken\\n              it is in its journal: from here on the VM is its own

A token is good for one claim. The endpoint's socket, and this one, are root's alone; the other end is checked besides.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import asdict, dataclass

#: Seconds between GetBaseVM and the claim, and for each step of the hand-over.
CLAIM_TIMEOUT = 10.0
TAKEN = b"taken\n"
LINE_LIMIT = 256
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True)
class Ticket:
    """`GrpcVM.hypervisor`: where the VM can be claimed, with what, and the giver's journal of it to be removed then."""

    socket: str
    token: str
    journal: str

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Ticket:
        """From JSON; raises `ValueError`."""
        found = json.loads(data)
        names = ("socket", "token", "journal")
        if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in names):
            raise ValueError("the VM comes without what is needed to claim it")
        return cls(*(found[name] for name in names))


def is_trusted(sock: socket.socket) -> bool:
    """Whether the other end runs as our user, or as root."""
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return uid in (0, os.geteuid())
