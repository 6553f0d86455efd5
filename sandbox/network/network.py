"""The network of one pod, from its namespace into its VM and back.

| method               | when                                                                                  |
|----------------------|---------------------------------------------------------------------------------------|
| `attach`             | once, before the VM starts: scan, plan, journal, devices                              |
| `place`              | then, before the VM starts: which PCI slots its interfaces have                       |
| `nics` `release`     | then: what the VM inherits; released as soon as it has, or will not                   |
| `plug`               | in place of both, once a VM is there that was restored                                |
| `configure`          | once the agent answers: interfaces, routes, neighbours                                |
| `follow`             | beside the pod: carries later changes of the namespace into the VM                    |
| `close`              | any time, idempotent, when the VM is gone: the namespace is as it was                 |

A pod without a network to carry does nothing in all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from agent_client.errors import AgentError
from hypervisor.errors import HypervisorError
from hypervisor.hotplug.nics import PluggedNic
from hypervisor.hotplug.plug import Hotplug
from hypervisor.hotplug.slots import PciSlot, PciSlots
from hypervisor.nics import Nic
from protos.gen import types
from sandbox.errors import SandboxError, UnavailableError
from sandbox.network import messages
from sandbox.network.client import Device, Worker, working
from sandbox.network.namespace import Namespace, open_namespace
from sandbox.network.plan import Endpoint, NetworkPlan, carried_links, plan_endpoints
from sandbox.network.scan import Link, Scan
from sandbox.network.undo import KEY, undo_in
from sandbox.network.watch import Watch

#: Journals a fact under a key.
Record = Callable[[str, Any], None]

_log = logging.getLogger(__name__)


class Guest(Protocol):
    """What is needed of the agent; its client has it as `network`."""

    async def update_interface(self, interface: types.Interface) -> types.Interface:
        """UpdateInterface; raises `AgentError`, as the others do."""

    async def update_routes(self, routes: Iterable[types.Route]) -> list[types.Route]:
        """UpdateRoutes."""

    async def add_arp_neighbors(self, neighbors: Iterable[types.ArpNeighbor]) -> None:
        """AddARPNeighbors."""


@dataclass
class Carried:
    """A link that the VM has: as it was when it was last told to the guest, with the device through which it goes."""

    link: Link
    endpoint: Endpoint
    device: Device
    nic: PluggedNic
    #: The message that the guest has taken, encoded.
    told: bytes = b""


class PodNetwork:
    """See the module."""

    def __init__(self, plan: NetworkPlan | None = None, record: Record | None = None) -> None:
        """`record` journals what has to be undone; without a plan there is no network to carry."""
        self.plan = plan or NetworkPlan()
        self.carried: dict[int, Carried] = {}
        self.watch: Watch | None = None
        self._record = record
        self._namespace: Namespace | None = None
        #: One that waits for `attach`.
        self._worker: Worker | None = None
        self._scan = Scan()
        self._told: tuple[bytes, ...] = ()
        #: What the journal says has to be undone.
        self._undoing: list[dict[str, Any]] = []

    @property
    def nics(self) -> tuple[Nic, ...]:
        """What the VM starts with; empty once it is released."""
        return tuple(
            nic_of(each.endpoint, each.device, each.nic.slot) for each in self.carried.values() if each.device.taps
        )

    def place(self, slots: PciSlots) -> None:
        """Give each interface a slot of the VM; raises `HypervisorError` when there are not enough."""
        for each in self.carried.values():
            each.nic = PluggedNic(each.nic.id, each.nic.netdev, slots.take(each.nic.id))

    async def plug(self, hotplug: Hotplug) -> None:
        """In place of `place` and `nics`: plug the interfaces into a VM that was restored; raises `HypervisorError`."""
        from hypervisor.hotplug.nics import plug

        try:
            for each in self.carried.values():
                each.nic = await plug(hotplug, nic_of(each.endpoint, each.device))
        finally:
            self.release()

    @property
    def namespace(self) -> int:
        """Descriptor of the namespace; there is one from `attach` to `close`."""
        if self._namespace is None:
            raise UnavailableError("the pod has no network namespace")
        return self._namespace.fd

    def warm(self) -> None:
        """Start ahead of `attach` what takes it most of its time, and touches nothing; idempotent.

        What fails in it fails there again.
        """
        if (
            self._worker is None
            and self._namespace is None
            and self.plan.is_carried
            and self.plan.namespace is not None
        ):
            try:
                self._namespace = open_namespace(self.plan.namespace)
                self._worker = Worker.start(self.namespace)
            except (SandboxError, HypervisorError) as error:
                _log.debug("the network's worker does not start ahead: %s", error)

    async def attach(self) -> None:
        """Make a device for every link of the namespace.

        Raises `SandboxError` for a namespace that is not there or can't be carried; what was made is undone by `close`.
        """
        if not self.plan.is_carried or self.plan.namespace is None:
            return
        if self._namespace is None:
            self._namespace = open_namespace(self.plan.namespace)
        self.watch = Watch.open(self.namespace)
        started, self._worker = self._worker, None
        async with working(self.namespace, started) as worker:
            self._scan = await worker.scan()
            links = carried_links(self._scan)
            for each in await self.make(worker, self._scan, links):
                self.carried[each.link.index] = each

    async def make(self, worker: Worker, scan: Scan, links: Collection[Link]) -> list[Carried]:
        """Devices for `links`, journalled before they are made; raises `SandboxError`, and there is none then."""
        endpoints = plan_endpoints(self.plan, scan, links)
        if not endpoints or self._namespace is None:
            return []
        self._journal([*(each.endpoint for each in self.carried.values()), *endpoints])
        devices = await worker.attach(endpoints)
        if self.watch:
            self.watch.ours |= {device.index for device in devices}
        return [
            Carried(link, endpoint, device, PluggedNic(endpoint.id, nic_of(endpoint, device).netdev))
            for link, endpoint, device in zip(links, endpoints, devices, strict=True)
        ]

    def _journal(self, endpoints: Iterable[Endpoint]) -> None:
        if place := self._namespace:
            self._undoing = [endpoint.undoing for endpoint in endpoints]
            fact = {"namespace": place.path, "device": place.device, "inode": place.inode, "links": self._undoing}
            if self._record:
                self._record(KEY, fact)

    def release(self) -> None:
        """Close our copies of the VM's descriptors; idempotent."""
        for each in self.carried.values():
            each.device.close()

    async def configure(self, guest: Guest) -> None:
        """Tell the guest what the last scan has found; raises `UnavailableError` that names what it could not set."""
        if self.carried:
            await self.tell(guest, self._scan)

    async def tell(self, guest: Guest, scan: Scan) -> None:
        """Tell the guest what is in `scan` and it does not know yet; raises `UnavailableError`."""
        links = [each.link for each in self.carried.values()]
        changed = False
        for each in self.carried.values():
            message = messages.interface(scan, each.link, each.nic.path)
            if bytes(message) != each.told:
                await _asked(f"set up interface {each.link.name}", guest.update_interface(message))
                each.told, changed = bytes(message), True
        routes, neighbours = messages.routes(scan, links), messages.neighbours(scan, links)
        told = tuple(bytes(message) for message in (*routes, *neighbours))
        if changed or told != self._told:
            # A link that was set up anew has lost its routes.
            await _asked("set the routes", guest.update_routes(routes))
            if neighbours:
                await _asked("set the neighbours", guest.add_arp_neighbors(neighbours))
            self._told = told

    def close(self) -> None:
        """Undo what was made in the namespace, and let go of it."""
        self.release()
        if self._worker is not None:
            self._worker.kill()
            self._worker = None
        if self.watch:
            self.watch.close()
            self.watch = None
        if self._namespace is None:
            return
        try:
            undo_in(self._namespace.fd, self._undoing)
        except OSError as error:
            _log.warning("the pod's network namespace %s could not be put in order: %s", self._namespace.path, error)
        self.carried.clear()
        self._namespace.close()
        self._namespace = None


def nic_of(endpoint: Endpoint, device: Device, slot: PciSlot | None = None) -> Nic:
    """The VM's side of an endpoint whose descriptors are open."""
    return Nic(endpoint.id, endpoint.mac, device.taps, device.vhosts, slot)


async def _asked(what: str, request: Any) -> None:
    try:
        await request
    except AgentError as error:
        raise UnavailableError(f"the guest could not {what}: {error}") from error
