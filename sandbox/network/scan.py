"""What is in a network namespace at one moment, as values that cross the worker's pipe as JSON. Standard library only.

Addresses are text, families `4` and `6`, numbers those of rtnetlink(7).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

#: `ifi_type` of what carries Ethernet frames, and of the loopback.
ETHERNET, LOOPBACK = 1, 772
IFF_UP, IFF_NOARP = 0x1, 0x80
SCOPE_LINK = 253
PROTO_KERNEL = 2
NUD_PERMANENT = 0x80
#: More than a pod has; a namespace with more is not one.
MAX_ITEMS = 4096


@dataclass(frozen=True)
class Link:
    """An interface; `kind` is rtnetlink's (`veth`, `macvlan`, ...), empty if unknown; `master` 0 if it has none.

    `qdiscs` are the kinds of its queueing disciplines, separated by blanks.
    """

    index: int
    name: str
    type: int
    flags: int
    mtu: int
    mac: str
    kind: str = ""
    master: int = 0
    qdiscs: str = ""


@dataclass(frozen=True)
class Address:
    """An address of the link with that index."""

    link: int
    family: int
    address: str
    prefix: int
    scope: int = 0


@dataclass(frozen=True)
class Route:
    """A unicast route of the main table; `destination` is empty for the default, `gateway` for what is on the link."""

    link: int
    family: int
    destination: str = ""
    gateway: str = ""
    source: str = ""
    scope: int = 0
    protocol: int = 0
    flags: int = 0
    metric: int = 0
    mtu: int = 0


@dataclass(frozen=True)
class Neighbour:
    """A permanent entry of the neighbour table."""

    link: int
    address: str
    mac: str
    state: int = NUD_PERMANENT
    flags: int = 0


@dataclass(frozen=True)
class Scan:
    """All of it."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scan:
        """The opposite of `to_json`; raises `ValueError` for anything else."""
        return cls(
            _items(Link, value.get("links")),
            _items(Address, value.get("addresses")),
            _items(Route, value.get("routes")),
            _items(Neighbour, value.get("neighbours")),
        )


T = TypeVar("T", Link, Address, Route, Neighbour)


def _items(kind: type[T], values: Any) -> tuple[T, ...]:
    if not isinstance(values, list) or len(values) > MAX_ITEMS:
        raise ValueError(f"a scan has at most {MAX_ITEMS} items of a kind")
    names = {each.name for each in fields(kind)}
    if any(not isinstance(value, dict) or value.keys() != names for value in values):
        raise ValueError(f"{kind.__name__.lower()} in a scan is malformed")
    return tuple(kind(**value) for value in values)
