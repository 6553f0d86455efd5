"""What the guest is told of its network: the agent's messages from a scan. Pure.

The guest's kernel makes the routes that come with an address by itself, so those of protocol `kernel` stay out. The
protocol has no metric: of several routes to one destination the best one counts.
"""

from __future__ import annotations

from collections.abc import Collection

from protos.gen import types
from sandbox.network.plan import is_link_local
from sandbox.network.scan import IFF_NOARP, PROTO_KERNEL, Link, Route, Scan


def interface(scan: Scan, link: Link, device_path: str = "") -> types.Interface:
    """A link with its addresses; `device_path` is the PCI path of one that was plugged into the running VM."""
    return types.Interface(
        device=link.name,
        name=link.name,
        ip_addresses=[
            types.IpAddress(family=_family(each.family), address=each.address, mask=str(each.prefix))
            for each in scan.addresses
            if each.link == link.index and not is_link_local(each.family, each.scope)
        ],
        mtu=link.mtu,
        hw_addr=link.mac,
        device_path=device_path,
        raw_flags=link.flags & IFF_NOARP,
    )


def routes(scan: Scan, links: Collection[Link]) -> list[types.Route]:
    """The routes over `links`, those without a gateway first, for they make the gateways reachable."""
    names = {link.index: link.name for link in links}
    best: dict[tuple[int, str], Route] = {}
    for route in scan.routes:
        known = best.get((route.family, route.destination))
        if route.link not in names or route.protocol == PROTO_KERNEL or (known and known.metric <= route.metric):
            continue
        best[route.family, route.destination] = route
    return [_route(each, names) for each in sorted(best.values(), key=lambda each: bool(each.gateway))]


def _route(route: Route, names: dict[int, str]) -> types.Route:
    return types.Route(
        dest=route.destination,
        gateway=route.gateway,
        device=names[route.link],
        source=route.source,
        scope=route.scope,
        family=_family(route.family),
        flags=route.flags,
        mtu=route.mtu,
    )


def neighbours(scan: Scan, links: Collection[Link]) -> list[types.ArpNeighbor]:
    """The permanent neighbours on `links`."""
    names = {link.index: link.name for link in links}
    return [
        types.ArpNeighbor(
            to_ip_address=types.IpAddress(family=_family(6 if ":" in each.address else 4), address=each.address),
            device=names[each.link],
            lladdr=each.mac,
            state=each.state,
            flags=each.flags,
        )
        for each in scan.neighbours
        if each.link in names
    ]


def _family(number: int) -> types.IpFamily:
    return types.IpFamily.v6 if number == 6 else types.IpFamily.v4
