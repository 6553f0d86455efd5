"""Who is at the other end of a UNIX socket, as the kernel vouches for it (SO_PEERCRED, unix(7))."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import NamedTuple

_UCRED = struct.Struct("3i")


class Peer(NamedTuple):
    """Process, user and group that connected; containerd is pid 0 when it lives outside of our pid namespace."""

    pid: int
    uid: int
    gid: int


def peer_of(transport: asyncio.BaseTransport) -> Peer | None:
    """Return the peer of a UNIX socket; None for any other transport."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def check_same_user(peer: Peer | None) -> None:
    """Raise PermissionError unless `peer` has our effective user and group, which is what Go's ttrpc demands."""
    if peer is None or (peer.uid, peer.gid) != (os.geteuid(), os.getegid()):
        raise PermissionError(f"{peer} is not of user {os.geteuid()} and group {os.getegid()}")
