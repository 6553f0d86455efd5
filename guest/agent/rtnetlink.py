"""rtnetlink messages: bytes to and from headers and attributes. Pure; see netlink(7) and rtnetlink(7).

Raw messages and not the `ip` command, because each start of a program costs tens of milliseconds in an emulated guest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

NLMSG_ERROR = 2
NLMSG_DONE = 3

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH = 28

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_CREATE = 0x400

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU = 1, 3, 4
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_METRICS, RTA_TABLE = 1, 4, 5, 7, 8, 15
RTAX_MTU = 2
NDA_DST, NDA_LLADDR = 1, 2
NLMSGERR_ATTR_MSG = 1

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
#: Family, type, index, flags, mask of flags to change.
LINK = struct.Struct("=BxHiII")
#: Family, prefix length, flags, scope, index.
ADDRESS = struct.Struct("=BBBBI")
#: Family, lengths of destination and source, tos, table, protocol, scope, type, flags.
ROUTE = struct.Struct("=BBBBBBBBI")
#: Family, index, state, flags, type.
NEIGHBOUR = struct.Struct("=BxxxiHBB")

Attributes = dict[int, bytes]


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def number(kind: int, value: int) -> bytes:
    """An attribute that is an unsigned 32-bit number."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """An attribute that is a string, with its closing NUL."""
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A request to the kernel."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, sequence number and body of each message in a datagram; stops at one that is cut off."""
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, position)
        if length < _HEADER.size or position + length > len(data):
            return
        yield kind, sequence, data[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def attributes(data: bytes) -> Attributes:
    """The attributes in `data` by type, flags of the type removed; stops at one that is cut off."""
    result: Attributes = {}
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size or position + length > len(data):
            break
        result[kind & 0x3FFF] = data[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
    return result


def as_number(value: bytes | None) -> int:
    """A 32-bit attribute's number; 0 if it is absent."""
    return int.from_bytes(value[:4], "little") if value else 0


def as_text(value: bytes | None) -> str:
    """A string attribute's text; empty if it is absent."""
    return value.rstrip(b"\0").decode("utf-8", "replace") if value else ""


def acknowledgement(body: bytes) -> tuple[int, str]:
    """The errno in an NLMSG_ERROR body (0: it worked) and the kernel's own words, if it gave any."""
    code = -struct.unpack_from("=i", body)[0]
    if code == 0 or len(body) < 4 + _HEADER.size:
        return code, ""
    # With NETLINK_CAP_ACK only the header of our request comes back, and the attributes follow it.
    return code, as_text(attributes(body[4 + _HEADER.size :]).get(NLMSGERR_ATTR_MSG))
