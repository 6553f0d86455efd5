"""Takes back what a pod's network left in its namespace, from the journal alone.

A tap goes with the last of its descriptors, which QEMU has. What stays is on the pod's own links: the queueing
discipline that redirects, the one that limits, and a macvtap. Standard library only, for `delete` uses it too; messages
are those of rtnetlink(7). Malformed journals, and namespaces and links that are gone, are nothing to undo.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any

from sandbox.network.entering import within

#: The journal's key.
KEY = "network"

_RTM_DELLINK, _RTM_DELQDISC = 17, 37
_NLMSG_ERROR = 2
_REQUEST_ACK = 0x1 | 0x4
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_QDISC = struct.Struct("=BxxxiIII")
#: Handle and parent of a queueing discipline by its place.
_PLACES = {"ingress": (0xFFFF0000, 0xFFFFFFF1), "root": (0, 0xFFFFFFFF)}
_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.EINVAL})
_TIMEOUT = 2.0


def undo(fact: Any) -> None:
    """Undo what a journal says of a namespace, if that still is where it was; raises `OSError`."""
    if not isinstance(fact, dict) or not isinstance(fact.get("namespace"), str):
        return
    try:
        fd = os.open(fact["namespace"], os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return
    try:
        about = os.fstat(fd)
        if (about.st_dev, about.st_ino) == (fact.get("device"), fact.get("inode")):
            undo_in(fd, fact.get("links"))
    finally:
        os.close(fd)


def undo_in(namespace: int, links: Any) -> None:
    """Undo what the journal's list `links` says, in an open namespace; raises `OSError`."""
    entries = [entry for entry in links if _is_entry(entry)] if isinstance(links, list) else []
    if entries:
        within(namespace, lambda: remove(entries))


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("index"), int)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("device"), str)
        and isinstance(entry.get("places"), list)
    )


def remove(entries: Iterable[dict[str, Any]]) -> None:
    """Remove what the entries name from the namespace that this thread is in; raises `OSError` for the last failure."""
    failure: OSError | None = None
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(_TIMEOUT)
        for entry in entries:
            for request in _requests(entry):
                try:
                    _send(netlink, request)
                except OSError as error:
                    failure = error
    if failure:
        raise failure


def _requests(entry: dict[str, Any]) -> list[bytes]:
    """The requests that undo an entry: its macvtap by name, and the disciplines of its link if that is still there."""
    requests = []
    places = [_PLACES[place] for place in entry["places"] if place in _PLACES]
    if places and _name(entry["index"]) == entry["name"]:
        requests += [
            _message(_RTM_DELQDISC, _QDISC.pack(0, entry["index"], handle, parent, 0)) for handle, parent in places
        ]
    if "macvtap" in entry["places"] and (index := _index(entry["device"])):
        requests.append(_message(_RTM_DELLINK, _LINK.pack(0, 0, index, 0, 0)))
    return requests


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except (OSError, OverflowError):
        return ""


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _message(kind: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_ACK, 1, 0) + body


def _send(netlink: socket.socket, request: bytes) -> None:
    netlink.send(request)
    answer = netlink.recv(4096)
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    code = -struct.unpack_from("=i", answer, _HEADER.size)[0] if kind == _NLMSG_ERROR else 0
    if code and code not in _GONE:
        raise OSError(code, os.strerror(code))
