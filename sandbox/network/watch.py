"""Tells that something in the pod's namespace has changed, so that a new scan is worth its while.

A netlink socket of that namespace, in the groups for links, addresses, routes and neighbours (rtnetlink(7)). What our
own devices cause there is no news, nor is what the guest is not told of: what the kernel makes or learns by itself.
"""

from __future__ import annotations

import errno
import socket
import struct

import anyio

from sandbox.network.entering import within
from sandbox.network.plan import is_link_local
from sandbox.network.scan import NUD_PERMANENT, PROTO_KERNEL

#: RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
_GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400
_HEADER = struct.Struct("=IHHII")
_LINKS, _ADDRESSES, _ROUTES, _NEIGHBOURS = (16, 17), (20, 21), (24, 25), (28, 29)
_NLMSG_OVERRUN = 4
_RTA_OIF = 4
_MAIN_TABLE, _UNICAST = 254, 1
_DATAGRAM = 1 << 16
#: A change rarely comes alone: so long must nothing more come before it is told, but no longer than that in all.
QUIET, PATIENCE = 0.1, 1.0


class Watch:
    """An open watch; every change from `open` on is told once. `ours` are the indexes of devices that we made."""

    def __init__(self, netlink: socket.socket) -> None:
        self._netlink = netlink
        self.ours: set[int] = set()

    @classmethod
    def open(cls, namespace: int) -> Watch:
        """Watch the namespace behind a descriptor; raises `OSError`."""
        return cls(within(namespace, _open))

    async def changed(self) -> None:
        """Return when something has changed, and then nothing more for a moment."""
        while not await self._news():
            pass
        with anyio.move_on_after(PATIENCE):
            while True:
                with anyio.move_on_after(QUIET) as pause:
                    await self._news()
                if pause.cancelled_caught:
                    return

    async def _news(self) -> bool:
        """Wait for a datagram; whether it matters."""
        await anyio.wait_readable(self._netlink)
        try:
            return matters(self._netlink.recv(_DATAGRAM), self.ours)
        except BlockingIOError:
            return False
        except OSError as error:
            # More has happened than the socket holds.
            if error.errno == errno.ENOBUFS:
                return True
            raise

    def close(self) -> None:
        """The end."""
        self._netlink.close()


def _open() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    netlink.setblocking(False)
    netlink.bind((0, _GROUPS))
    return netlink


def matters(datagram: bytes, ours: set[int]) -> bool:
    """Whether a datagram tells of a change that is not about one of `ours`; one that is malformed does."""
    position = 0
    while position + _HEADER.size <= len(datagram):
        length, kind, _, _, _ = _HEADER.unpack_from(datagram, position)
        if length < _HEADER.size or kind == _NLMSG_OVERRUN:
            return True
        if _is_news(kind, datagram[position + _HEADER.size : position + length], ours):
            return True
        position += (length + 3) & ~3
    return False


def _is_news(kind: int, body: bytes, ours: set[int]) -> bool:
    if len(body) < 12:
        return True
    index: int | None = struct.unpack_from("=i", body, 4)[0]
    if kind in _LINKS:
        # Those of a family tell of its own state, such as router solicitations.
        is_news = body[0] == socket.AF_UNSPEC
    elif kind in _ADDRESSES:
        is_news = not is_link_local(6 if body[0] == socket.AF_INET6 else 4, body[3])
    elif kind in _ROUTES:
        index = _out_interface(body[12:])
        is_news = (body[4], body[7]) == (_MAIN_TABLE, _UNICAST) and body[5] != PROTO_KERNEL
    else:
        is_news = kind in _NEIGHBOURS and bool(struct.unpack_from("=H", body, 8)[0] & NUD_PERMANENT)
    return is_news and index not in ours


def _out_interface(attributes: bytes) -> int | None:
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == _RTA_OIF and length == 8 and len(attributes) >= 8:
            value: int = struct.unpack_from("=i", attributes, 4)[0]
            return value
        if length < 4:
            return None
        attributes = attributes[(length + 3) & ~3 :]
    return None
