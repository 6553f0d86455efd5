"""The guest's network links: listed, and set to what the host says (UpdateInterface).

A link is found by its hardware address; if there is none with it, the link of the wanted name takes the address, which
is how a NIC of a VM template becomes a pod's. Addresses become exactly those given.
"""

from __future__ import annotations

import asyncio
import os
import socket

from guest.agent import addresses, rtnetlink
from guest.agent.errors import InvalidArgumentError, NotFoundError
from guest.agent.netlink import Netlink
from protos.lean.gen.types import Interface, IpAddress, IpFamily

IFF_UP = 0x1
IFF_NOARP = 0x80
_NAME_LIMIT = 15
_POLL_SECONDS = 0.02
_LINK_LOCAL_SCOPE = 253
_IPV6_SWITCH = "/proc/sys/net/ipv6/conf/all/disable_ipv6"


class Link:
    """A link as the kernel shows it."""

    __slots__ = ("address", "flags", "index", "mtu", "name")

    def __init__(self, index: int, name: str, flags: int, mtu: int, address: bytes) -> None:
        self.index = index
        self.name = name
        self.flags = flags
        self.mtu = mtu
        self.address = address


class LinkAddress:
    """An address of a link."""

    __slots__ = ("family", "index", "prefix", "scope", "value")

    def __init__(self, index: int, family: int, prefix: int, scope: int, value: bytes) -> None:
        self.index = index
        self.family = family
        self.prefix = prefix
        self.scope = scope
        self.value = value


def links(netlink: Netlink) -> list[Link]:
    """All links."""
    body = rtnetlink.LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    return [parse_link(answer) for answer in netlink.dump("list links", rtnetlink.RTM_GETLINK, body)]


def parse_link(body: bytes) -> Link:
    """A link from the body of the kernel's message."""
    _, _, index, flags, _ = rtnetlink.LINK.unpack_from(body)
    attributes = rtnetlink.attributes(body[rtnetlink.LINK.size :])
    return Link(
        index,
        rtnetlink.as_text(attributes.get(rtnetlink.IFLA_IFNAME)),
        flags,
        rtnetlink.as_number(attributes.get(rtnetlink.IFLA_MTU)),
        attributes.get(rtnetlink.IFLA_ADDRESS, b""),
    )


def link_addresses(netlink: Netlink) -> list[LinkAddress]:
    """All addresses of all links."""
    body = rtnetlink.ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    return [parse_address(answer) for answer in netlink.dump("list addresses", rtnetlink.RTM_GETADDR, body)]


def parse_address(body: bytes) -> LinkAddress:
    """An address from the body of the kernel's message."""
    family, prefix, _, scope, index = rtnetlink.ADDRESS.unpack_from(body)
    attributes = rtnetlink.attributes(body[rtnetlink.ADDRESS.size :])
    value = attributes.get(rtnetlink.IFA_LOCAL) or attributes.get(rtnetlink.IFA_ADDRESS, b"")
    return LinkAddress(index, family, prefix, scope, value)


def list_interfaces() -> list[Interface]:
    """All links with their addresses, as the protocol shows them."""
    with Netlink() as netlink:
        found = link_addresses(netlink)
        return [_interface(link, [each for each in found if each.index == link.index]) for link in links(netlink)]


def _interface(link: Link, found: list[LinkAddress]) -> Interface:
    return Interface(
        device=link.name,
        name=link.name,
        mtu=link.mtu,
        hw_addr=addresses.hardware_text(link.address),
        raw_flags=link.flags,
        ip_addresses=[
            IpAddress(
                family=IpFamily.v6 if each.family == socket.AF_INET6 else IpFamily.v4,
                address=addresses.unpacked(each.value),
                mask=str(each.prefix),
            )
            for each in found
        ],
    )


async def update_interface(wanted: Interface, timeout: float) -> Interface:
    """Set a link up as `wanted`; waits up to `timeout` seconds for a hot-plugged one. Returns `wanted`."""
    check_name(wanted.name)
    hardware = addresses.hardware_address(wanted.hw_addr)
    new = [_wanted_address(each) for each in wanted.ip_addresses]
    with Netlink() as netlink:
        link = await _find(netlink, hardware, wanted, timeout)
        if link.address != hardware or link.name != wanted.name:
            _set_flags(netlink, link.index, 0, IFF_UP)
        if link.address != hardware:
            _set(netlink, link.index, rtnetlink.attribute(rtnetlink.IFLA_ADDRESS, hardware))
        if link.name != wanted.name:
            _rename(netlink, link, wanted.name)
        if wanted.mtu:
            _set(netlink, link.index, rtnetlink.number(rtnetlink.IFLA_MTU, min(wanted.mtu, 65535)))
        _replace_addresses(netlink, link.index, new)
        _set_flags(netlink, link.index, IFF_UP | (wanted.raw_flags & IFF_NOARP), IFF_UP | IFF_NOARP)
    return wanted


def check_name(name: str) -> None:
    """Raise `InvalidArgumentError` unless the kernel would take `name` for a link."""
    bad = not name or len(name.encode()) > _NAME_LIMIT or name in (".", "..")
    if bad or any(char in "/:" or char.isspace() or not char.isprintable() for char in name):
        raise InvalidArgumentError(f"link name {name[:60]!r} is malformed")


async def _find(netlink: Netlink, hardware: bytes, wanted: Interface, timeout: float) -> Link:
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        found = links(netlink)
        for link in found:
            if link.address == hardware:
                return link
        for link in found:
            if link.name in (wanted.name, wanted.device) and not wanted.device_path:
                return link
        if asyncio.get_running_loop().time() >= deadline:
            raise NotFoundError(f"no link has the address {wanted.hw_addr} or the name {wanted.name}")
        await asyncio.sleep(_POLL_SECONDS)


def _set(netlink: Netlink, index: int, attributes: bytes) -> None:
    body = rtnetlink.LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attributes
    netlink.request(f"set link {index}", rtnetlink.RTM_NEWLINK, 0, body)


def _set_flags(netlink: Netlink, index: int, flags: int, mask: int) -> None:
    body = rtnetlink.LINK.pack(socket.AF_UNSPEC, 0, index, flags, mask)
    netlink.request(f"set flags of link {index}", rtnetlink.RTM_NEWLINK, 0, body)


def _rename(netlink: Netlink, link: Link, name: str) -> None:
    """Give the link its name; one that has it already takes the other's in exchange."""
    holder = next((other for other in links(netlink) if other.name == name), None)
    if holder is not None:
        _set_flags(netlink, holder.index, 0, IFF_UP)
        _set(netlink, holder.index, rtnetlink.text(rtnetlink.IFLA_IFNAME, f"swap{holder.index}"))
    _set(netlink, link.index, rtnetlink.text(rtnetlink.IFLA_IFNAME, name))
    if holder is not None:
        _set(netlink, holder.index, rtnetlink.text(rtnetlink.IFLA_IFNAME, link.name))
        _set_flags(netlink, holder.index, holder.flags & IFF_UP, IFF_UP)


def _wanted_address(each: IpAddress) -> tuple[int, int, bytes]:
    """Family, prefix length and bytes."""
    family = addresses.family_of(each.address)
    return family, addresses.prefix_length(each.mask, family), addresses.packed(each.address)


def _replace_addresses(netlink: Netlink, index: int, new: list[tuple[int, int, bytes]]) -> None:
    """Make the link's addresses those given; the kernel's own link-local ones stay."""
    for old in link_addresses(netlink):
        key = (old.family, old.prefix, old.value)
        if old.index == index and key not in new and old.scope != _LINK_LOCAL_SCOPE:
            netlink.request("remove an address", rtnetlink.RTM_DELADDR, 0, _address_body(index, *key))
    for key in new:
        if key[0] == socket.AF_INET6 and not has_ipv6():
            continue
        flags = rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
        what = f"add address {addresses.unpacked(key[2])}"
        netlink.request(what, rtnetlink.RTM_NEWADDR, flags, _address_body(index, *key))


def _address_body(index: int, family: int, prefix: int, value: bytes) -> bytes:
    # Whoever gave the pod its address knows that it is nobody else's; usable at once, and not after a second of asking.
    flags = rtnetlink.IFA_F_NODAD if family == socket.AF_INET6 else 0
    head = rtnetlink.ADDRESS.pack(family, prefix, flags, 0, index)
    return head + rtnetlink.attribute(rtnetlink.IFA_LOCAL, value) + rtnetlink.attribute(rtnetlink.IFA_ADDRESS, value)


def has_ipv6(switch: str = _IPV6_SWITCH) -> bool:
    """Whether the guest's kernel does IPv6."""
    if not os.path.exists(switch):
        return False
    with open(switch, encoding="ascii") as file:
        return file.read().strip() == "0"
