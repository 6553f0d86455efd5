"""Later changes of the pod's namespace, carried into the VM that runs: interfaces plugged and unplugged, and told anew.

CNI plugins that attach a second network, Docker (which brings the interface between Create and Start) and
administrators change a pod's network while it runs. Each change costs one worker; many at once cost one together.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from hypervisor.errors import HypervisorError
from hypervisor.hotplug.nics import plug, unplug
from sandbox.errors import SandboxError
from sandbox.network.client import Worker, working
from sandbox.network.network import Carried, Guest, PodNetwork, nic_of
from sandbox.network.plan import carried_links
from sandbox.network.scan import Link, Scan

if TYPE_CHECKING:
    from hypervisor.hotplug.plug import Hotplug

#: Seconds until what failed is tried again, and how often; after that only a further change is a reason to.
RETRY_AFTER, RETRIES = 5.0, 5

_log = logging.getLogger(__name__)


async def follow(network: PodNetwork, hotplug: Hotplug, guest: Guest) -> None:
    """Carry every change over, until cancelled; returns at once for a pod whose network is not carried.

    A change that can't be carried over is logged and tried again; the pod goes on with what it has.
    """
    failures = 0
    while network.watch:
        with anyio.move_on_after(RETRY_AFTER if 0 < failures <= RETRIES else float("inf")):
            await network.watch.changed()
        try:
            await update(network, hotplug, guest)
            failures = 0
        except (SandboxError, HypervisorError, OSError) as error:
            # No room for the journal, or no more descriptors, is no end of a pod either.
            failures += 1
            _log.warning("a change of the pod's network could not be carried into the VM: %s", error)


async def update(network: PodNetwork, hotplug: Hotplug, guest: Guest) -> None:
    """Make the VM's network what the namespace's is now; raises `SandboxError`, `HypervisorError`, `OSError`."""
    async with working(network.namespace) as worker:
        scan = await worker.scan()
        ours = {each.device.index for each in network.carried.values()}
        links = {link.index: link for link in carried_links(scan, ours)}
        while await _let_go(network, hotplug, worker, links):
            # What has become another has lost what we had put on it.
            scan = await worker.scan()
            links = {link.index: link for link in carried_links(scan, ours)}
        await _resize(network, worker, links)
        for index, each in network.carried.items():
            each.link = links[index]
        new = [link for index, link in links.items() if index not in network.carried]
        await _take_on(network, hotplug, worker, scan, new)
    await network.tell(guest, scan)


async def _let_go(network: PodNetwork, hotplug: Hotplug, worker: Worker, links: dict[int, Link]) -> bool:
    """Unplug what is gone or down, or has become another: the guest knows a link by its hardware address.

    Whether there was any.
    """
    gone = [each for each in network.carried.values() if not _is_same(each, links.get(each.link.index))]
    for each in gone:
        _log.info("interface %s has left the pod's network namespace", each.link.name)
        await unplug(hotplug, each.nic)
        del network.carried[each.link.index]
    if gone:
        await worker.detach([each.endpoint for each in gone])
    return bool(gone)


def _is_same(carried: Carried, link: Link | None) -> bool:
    return link is not None and link.mac == carried.endpoint.mac


async def _resize(network: PodNetwork, worker: Worker, links: dict[int, Link]) -> None:
    pairs = ((each.device.index, links[index].mtu) for index, each in network.carried.items() if _resized(each, links))
    if sizes := list(pairs):
        await worker.resize(sizes)


def _resized(each: Carried, links: dict[int, Link]) -> bool:
    return links[each.link.index].mtu != each.link.mtu


async def _take_on(network: PodNetwork, hotplug: Hotplug, worker: Worker, scan: Scan, new: list[Link]) -> None:
    made = await network.make(worker, scan, new)
    try:
        for each in made:
            each.nic = await plug(hotplug, nic_of(each.endpoint, each.device))
            network.carried[each.link.index] = each
            _log.info("interface %s has come into the pod's network namespace", each.link.name)
    finally:
        for each in made:
            each.device.close()
        unplugged = [each.endpoint for each in made if each.link.index not in network.carried]
        if unplugged:
            with anyio.CancelScope(shield=True):
                await worker.detach(unplugged)
