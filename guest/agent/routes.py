"""The guest's routes and neighbours: listed, and added as the host says (UpdateRoutes, AddARPNeighbors).

Routes without a gateway come first, for they make the gateways of the others reachable. All go to the main table.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guest.agent import addresses, rtnetlink
from guest.agent.errors import InvalidArgumentError, NotFoundError
from guest.agent.links import has_ipv6, links
from guest.agent.netlink import Netlink
from protos.lean.gen.types import IpFamily, Route

if TYPE_CHECKING:
    from protos.lean.gen.types import ArpNeighbor

MAX_ROUTES = 4096
RT_TABLE_MAIN = 254
#: Whose routes ours are: those of containers with CAP_NET_ADMIN are `boot`, the kernel's own `kernel`.
RTPROT_STATIC = 4
RTN_UNICAST = 1
RTM_F_CLONED = 0x200
SCOPE_LINK = 253
NUD_PERMANENT = 0x80


def list_routes() -> list[Route]:
    """The unicast routes of the main table."""
    with Netlink() as netlink:
        return _list(netlink)


def _list(netlink: Netlink) -> list[Route]:
    names = {link.index: link.name for link in links(netlink)}
    result: list[Route] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        body = rtnetlink.ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for answer in netlink.dump("list routes", rtnetlink.RTM_GETROUTE, body):
            route = parse_route(answer, names)
            if route is not None:
                result.append(route)
    return result


def parse_route(body: bytes, names: dict[int, str]) -> Route | None:
    """A route from the body of the kernel's message; None if it is not of the main table or not unicast."""
    family, prefix, _, _, table, _, scope, kind, flags = rtnetlink.ROUTE.unpack_from(body)
    values = rtnetlink.attributes(body[rtnetlink.ROUTE.size :])
    table = rtnetlink.as_number(values.get(rtnetlink.RTA_TABLE)) or table
    if table != RT_TABLE_MAIN or kind != RTN_UNICAST or flags & RTM_F_CLONED:
        return None
    destination = addresses.unpacked(values.get(rtnetlink.RTA_DST, b""))
    metrics = rtnetlink.attributes(values.get(rtnetlink.RTA_METRICS, b""))
    return Route(
        dest=f"{destination}/{prefix}" if destination else "",
        gateway=addresses.unpacked(values.get(rtnetlink.RTA_GATEWAY, b"")),
        device=names.get(rtnetlink.as_number(values.get(rtnetlink.RTA_OIF)), ""),
        source=addresses.unpacked(values.get(rtnetlink.RTA_PREFSRC, b"")),
        scope=scope,
        family=IpFamily.v6 if family == socket.AF_INET6 else IpFamily.v4,
        flags=flags & 0xFF,
        mtu=rtnetlink.as_number(metrics.get(rtnetlink.RTAX_MTU)),
    )


def update_routes(wanted: Sequence[Route]) -> list[Route]:
    """Make our routes those given, and leave alone what others have added; returns all that there are then."""
    if len(wanted) > MAX_ROUTES:
        raise InvalidArgumentError(f"{len(wanted)} routes are too many")
    with Netlink() as netlink:
        indexes = {link.name: link.index for link in links(netlink)}
        for route in sorted(wanted, key=lambda each: bool(each.gateway)):
            if _family(route) == socket.AF_INET6 and not has_ipv6():
                continue
            body = route_body(route, indexes)
            flags = rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
            what = f"add route to {route.dest or 'default'}"
            netlink.request(what, rtnetlink.RTM_NEWROUTE, flags, body)
        _remove_stale(netlink, {_key(route) for route in wanted})
        return _list(netlink)


def _remove_stale(netlink: Netlink, wanted: set[tuple[int, bytes, int]]) -> None:
    """Remove what we have once added and is not wanted any more."""
    for family in (socket.AF_INET, socket.AF_INET6):
        body = rtnetlink.ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for answer in netlink.dump("list routes", rtnetlink.RTM_GETROUTE, body):
            _, prefix, _, _, table, protocol, _, _, _ = rtnetlink.ROUTE.unpack_from(answer)
            destination = rtnetlink.attributes(answer[rtnetlink.ROUTE.size :]).get(rtnetlink.RTA_DST, b"")
            is_ours = table == RT_TABLE_MAIN and protocol == RTPROT_STATIC
            if is_ours and (int(family), destination, prefix) not in wanted:
                netlink.request("remove a route", rtnetlink.RTM_DELROUTE, 0, answer)


def _key(route: Route) -> tuple[int, bytes, int]:
    """Family, destination and length of the prefix, as the kernel shows them."""
    destination, prefix = addresses.network(route.dest) if route.dest else (b"", 0)
    return int(_family(route)), destination if prefix else b"", prefix


def route_body(route: Route, indexes: dict[str, int]) -> bytes:
    """The body of the request that adds a route; `indexes` are the links by name."""
    family = _family(route)
    destination, prefix = addresses.network(route.dest) if route.dest else (b"", 0)
    scope = route.scope & 0xFF
    if not scope and not route.gateway and family == socket.AF_INET:
        scope = SCOPE_LINK
    flags = route.flags & 0xFF
    body = rtnetlink.ROUTE.pack(family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, flags)
    if destination and prefix:
        body += rtnetlink.attribute(rtnetlink.RTA_DST, destination)
    if route.gateway:
        body += rtnetlink.attribute(rtnetlink.RTA_GATEWAY, addresses.packed(route.gateway))
    if route.source:
        body += rtnetlink.attribute(rtnetlink.RTA_PREFSRC, addresses.packed(route.source))
    if route.device:
        body += rtnetlink.number(rtnetlink.RTA_OIF, _index(route.device, indexes))
    if route.mtu:
        body += rtnetlink.attribute(rtnetlink.RTA_METRICS, rtnetlink.number(rtnetlink.RTAX_MTU, route.mtu))
    return body


def _family(route: Route) -> socket.AddressFamily:
    """The family of what the route names; its own field only where it names nothing."""
    for text in (route.dest, route.gateway, route.source):
        if text:
            return addresses.family_of(text)
    return socket.AF_INET6 if route.family == IpFamily.v6 else socket.AF_INET


def _index(device: str, indexes: dict[str, int]) -> int:
    if device not in indexes:
        raise NotFoundError(f"there is no link {device[:60]!r}")
    return indexes[device]


def add_neighbours(wanted: Sequence[ArpNeighbor]) -> None:
    """Add or replace neighbour entries (ARP and NDP)."""
    if len(wanted) > MAX_ROUTES:
        raise InvalidArgumentError(f"{len(wanted)} neighbours are too many")
    with Netlink() as netlink:
        indexes = {link.name: link.index for link in links(netlink)}
        for each in wanted:
            body = neighbour_body(each, indexes)
            flags = rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REPLACE
            netlink.request(f"add neighbour {each.lladdr}", rtnetlink.RTM_NEWNEIGH, flags, body)


def neighbour_body(neighbour: ArpNeighbor, indexes: dict[str, int]) -> bytes:
    """The body of the request that adds a neighbour; without a state it is permanent."""
    address = neighbour.to_ip_address.address.partition("/")[0] if neighbour.to_ip_address else ""
    value = addresses.packed(address)
    state = (neighbour.state or NUD_PERMANENT) & 0xFFFF
    index = _index(neighbour.device, indexes)
    body = rtnetlink.NEIGHBOUR.pack(addresses.family_of(address), index, state, neighbour.flags & 0xFF, 0)
    body += rtnetlink.attribute(rtnetlink.NDA_DST, value)
    if neighbour.lladdr:
        body += rtnetlink.attribute(rtnetlink.NDA_LLADDR, addresses.hardware_address(neighbour.lladdr))
    return body
