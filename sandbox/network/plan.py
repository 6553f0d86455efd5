"""Which links of the pod's namespace the VM gets, and how. Pure.

A link is carried if it is up and moves Ethernet frames, whatever its kind: `tcfilter` redirects them at the lowest
layer. What is down or belongs to a bridge or bond of the same namespace stays out, as do the idle devices that tunnel
modules put into every namespace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from sandbox.errors import FailedPreconditionError
from sandbox.network.scan import ETHERNET, IFF_UP, LOOPBACK, SCOPE_LINK, Link, Scan

#: More interfaces than a pod of any CNI has: a bound on descriptors and PCI slots.
MAX_ENDPOINTS = 16
#: Queue pairs of an interface: more than so many vCPUs share them.
MAX_QUEUES = 8
#: Below these a macvtap of its own is not possible: they share the lower link already, or have none.
_NO_MACVTAP = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap", "tun"})
#: What redirects or filters what comes in, and there can be only one of it.
_INGRESS = frozenset({"ingress", "clsact"})
#: What the kernel or a host's default puts at the root of an interface: nobody misses it while it is replaced.
_DEFAULT_ROOTS = frozenset({"noqueue", "mq", "pfifo_fast", "fq_codel", "fq", "pfifo"})
#: A byte rate is 32 bits wide in tbf: a higher limit is lowered to this, in bits per second.
MAX_RATE = (2**32 - 1) * 8


@dataclass(frozen=True)
class NetworkPlan:
    """How the pod's network reaches its VM. `namespace` None: it has none of its own to carry.

    `queues` are queue pairs of each interface; rates in bits per second, 0 for no limit.
    """

    namespace: str | None = None
    model: str = "tcfilter"
    queues: int = 1
    vhost: bool = True
    rx_rate: int = 0
    tx_rate: int = 0

    @property
    def is_carried(self) -> bool:
        """Whether there is anything to do."""
        return self.namespace is not None and self.model != "none"


@dataclass(frozen=True)
class Endpoint:
    """A link of the namespace and the device that is made beside it, with how. All that the worker needs to make it."""

    link: int
    name: str
    mac: str
    mtu: int
    device: str
    model: str
    queues: int
    vhost: bool
    rx_rate: int
    tx_rate: int

    @property
    def id(self) -> str:
        """Its name in the VM."""
        return f"nic{self.link}"

    @property
    def undoing(self) -> dict[str, Any]:
        """What `undo` needs to know, for the journal."""
        tcfilter = ["ingress", "root"] if self.tx_rate else ["ingress"]
        places = ["macvtap"] if self.model == "macvtap" else tcfilter
        return {"index": self.link, "name": self.name, "device": self.device, "places": places}

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def carried_links(scan: Scan, ours: Collection[int] = ()) -> list[Link]:
    """The links that the VM gets, in their order; `ours` are the indexes of devices that we made.

    Raises `FailedPreconditionError` for a namespace that can't be carried as it is: a link of the third layer with
    addresses, or two links that the guest could not tell apart.
    """
    found = []
    for link in scan.links:
        if not link.flags & IFF_UP or link.type == LOOPBACK or link.master or link.index in ours:
            continue
        if link.type == ETHERNET:
            found.append(link)
        elif _has_address(scan, link):
            raise FailedPreconditionError(
                f"interface {link.name} ({link.kind or 'of unknown kind'}) carries no Ethernet frames, so it can't be "
                "given to a VM"
            )
    _check(found)
    return found


def _has_address(scan: Scan, link: Link) -> bool:
    return any(each.link == link.index and not is_link_local(each.family, each.scope) for each in scan.addresses)


def is_link_local(family: int, scope: int) -> bool:
    """Whether an address is one that an IPv6 kernel gives itself: the guest's makes the same from the same MAC."""
    return family == 6 and scope == SCOPE_LINK


def _check(found: list[Link]) -> None:
    if len(found) > MAX_ENDPOINTS:
        raise FailedPreconditionError(f"the pod has {len(found)} network interfaces: at most {MAX_ENDPOINTS} work")
    shared = [mac for mac, count in Counter(link.mac for link in found).items() if count > 1]
    if shared:
        names = ", ".join(link.name for link in found if link.mac == shared[0])
        raise FailedPreconditionError(
            f"interfaces {names} have the same hardware address {shared[0]}, by which the guest tells them apart"
        )


def plan_endpoints(plan: NetworkPlan, scan: Scan, links: Collection[Link]) -> list[Endpoint]:
    """An endpoint for each of `links`, with a name for its device that nothing in the namespace has yet.

    Limits are kept by queueing disciplines that a macvtap passes by, so with one of them the way is `tcfilter`. Raises
    `FailedPreconditionError` where somebody else already redirects or shapes what is ours to.
    """
    names = {link.name for link in scan.links}
    is_limited = bool(plan.rx_rate or plan.tx_rate)
    found = []
    for link in links:
        _check_qdiscs(link, is_shaped=plan.tx_rate > 0)
        device = next(name for number in range(len(names) + 1) if (name := f"tap{number}_kata") not in names)
        names.add(device)
        found.append(
            Endpoint(
                link=link.index,
                name=link.name,
                mac=link.mac,
                mtu=link.mtu,
                device=device,
                model="tcfilter" if is_limited or link.kind in _NO_MACVTAP else plan.model,
                queues=plan.queues,
                vhost=plan.vhost,
                rx_rate=min(plan.rx_rate, MAX_RATE),
                tx_rate=min(plan.tx_rate, MAX_RATE),
            )
        )
    return found


def _check_qdiscs(link: Link, is_shaped: bool) -> None:
    there = set(link.qdiscs.split())
    taken = there & _INGRESS or (there - _INGRESS - _DEFAULT_ROOTS if is_shaped else set())
    if taken:
        raise FailedPreconditionError(
            f"interface {link.name} has a queueing discipline ({', '.join(sorted(taken))}) already: something else "
            "redirects or limits its traffic"
        )
