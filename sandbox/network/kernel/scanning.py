"""A scan of the namespace that this process is in."""

from __future__ import annotations

import socket
from collections import defaultdict
from typing import Any

from sandbox.network.scan import MAX_ITEMS, NUD_PERMANENT, Address, Link, Neighbour, Route, Scan

_MAIN_TABLE = 254
_UNICAST = 1
_CLONED = 0x200
_FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}


def scan(netlink: Any) -> Scan:
    """All that is there; `netlink` is a pyroute2 `IPRoute`. More than `MAX_ITEMS` of a kind are an `OverflowError`."""
    qdiscs = defaultdict(list)
    for each in netlink.get_qdiscs():
        qdiscs[each["index"]].append(each.get("kind") or "")
    found = Scan(
        links=tuple(_link(each, qdiscs[each["index"]]) for each in netlink.get_links()),
        addresses=tuple(_address(each) for each in netlink.get_addr() if each["family"] in _FAMILIES),
        routes=tuple(
            _route(each) for family in _FAMILIES for each in netlink.get_routes(family=family) if _counts(each)
        ),
        neighbours=tuple(_neighbour(each) for each in netlink.get_neighbours() if _is_permanent(each)),
    )
    if max(map(len, (found.links, found.addresses, found.routes, found.neighbours))) > MAX_ITEMS:
        raise OverflowError(f"the network namespace has more than {MAX_ITEMS} links, addresses, routes or neighbours")
    return found


def _link(message: Any, qdiscs: list[str]) -> Link:
    return Link(
        index=message["index"],
        name=message.get("ifname") or "",
        type=message["ifi_type"],
        flags=message["flags"],
        mtu=message.get("mtu") or 0,
        mac=message.get("address") or "",
        kind=message.get(("linkinfo", "kind")) or "",
        master=message.get("master") or 0,
        qdiscs=" ".join(qdiscs),
    )


def _address(message: Any) -> Address:
    return Address(
        link=message["index"],
        family=_FAMILIES[message["family"]],
        # With a peer, `address` is the peer's.
        address=message.get("local") or message.get("address"),
        prefix=message["prefixlen"],
        scope=message["scope"],
    )


def _counts(message: Any) -> bool:
    table = message.get("table") or message["table"]
    return bool(table == _MAIN_TABLE and message["type"] == _UNICAST and not message["flags"] & _CLONED)


def _route(message: Any) -> Route:
    """A route; of one with several next hops the first, for the agent's protocol knows one."""
    hops = message.get("multipath")
    hop = hops[0] if hops else None
    destination = message.get("dst")
    metrics = message.get("metrics")
    via = (hop or message).get("gateway") or _other_family(hop or message)
    return Route(
        link=hop["oif"] if hop else message.get("oif") or 0,
        family=_FAMILIES[message["family"]],
        destination=f"{destination}/{message['dst_len']}" if destination else "",
        gateway=via or "",
        source=message.get("prefsrc") or "",
        scope=message["scope"],
        protocol=message["proto"],
        flags=(hop["flags"] if hop else message["flags"]) & 0xFF,
        metric=message.get("priority") or 0,
        mtu=(metrics.get("mtu") if metrics else 0) or 0,
    )


def _other_family(message: Any) -> str:
    """A gateway of the other family (RTA_VIA): an IPv4 route over an IPv6 neighbour."""
    via = message.get("via")
    return str(via.get("addr", "")) if isinstance(via, dict) else ""


def _is_permanent(message: Any) -> bool:
    return bool(message["state"] & NUD_PERMANENT and message.get("dst") and message.get("lladdr"))


def _neighbour(message: Any) -> Neighbour:
    return Neighbour(
        link=message["ifindex"],
        address=message.get("dst"),
        mac=message.get("lladdr"),
        state=message["state"],
        flags=message["flags"],
    )
