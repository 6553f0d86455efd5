"""Network interfaces that are plugged into a running VM, and unplugged.

The descriptors go to QEMU by name (`getfd`), then the back end takes them (`netdev_add`), then the device appears on a
PCI bridge. On failure all of it is undone. QMP reference: `getfd`, `closefd`, `netdev_add`, `netdev_del`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypervisor.errors import HypervisorError, QmpError, VmGoneError
from hypervisor.hotplug.plug import UNPLUG_TIMEOUT, Hotplug
from hypervisor.hotplug.slots import PciSlot
from hypervisor.nics import DRIVER, Nic


@dataclass(frozen=True)
class PluggedNic:
    """An interface that the VM has, from its start or plugged in later; `slot` None if it can't be unplugged."""

    id: str
    netdev: str
    slot: PciSlot | None = None

    @property
    def path(self) -> str:
        """Its PCI path for the guest's agent, empty where only its hardware address tells it."""
        return self.slot.path if self.slot else ""


async def plug(hotplug: Hotplug, nic: Nic) -> PluggedNic:
    """Plug `nic` in; its descriptors stay the caller's, QEMU has copies. Raises `HypervisorError`; nothing is left."""
    slot = hotplug.slots.take(nic.id)
    plugged = PluggedNic(nic.id, nic.netdev, slot)
    try:
        await _add_backend(hotplug, nic)
        try:
            properties = {**replace(nic, slot=slot).properties, "romfile": ""}
            await hotplug.add(DRIVER, nic.id, properties)
        except HypervisorError:
            # QEMU may have made it, and answered too late.
            await hotplug.discard(nic.id)
            await _remove_backend(hotplug, nic.netdev)
            raise
    except BaseException:
        hotplug.slots.give_back(slot)
        raise
    return plugged


async def unplug(hotplug: Hotplug, plugged: PluggedNic, timeout: float = UNPLUG_TIMEOUT) -> None:
    """Have the guest let go of it within `timeout` seconds, then close its taps; raises `HypervisorError`."""
    await hotplug.remove(plugged.id, timeout)
    await _remove_backend(hotplug, plugged.netdev)
    if plugged.slot:
        hotplug.slots.give_back(plugged.slot)


async def _add_backend(hotplug: Hotplug, nic: Nic) -> None:
    taps, vhosts = ([f"{nic.netdev}-{kind}{index}" for index, _ in enumerate(fds)] for kind, fds in _kinds(nic))
    passed: list[str] = []
    try:
        for name, fd in zip((*taps, *vhosts), nic.fds, strict=True):
            await hotplug.pass_descriptor(name, fd)
            passed.append(name)
        vhost = {"vhost": True, "vhostfds": ":".join(vhosts)} if vhosts else {"vhost": False}
        await hotplug.execute("netdev_add", {"type": "tap", "id": nic.netdev, "fds": ":".join(taps), **vhost})
    except QmpError as error:
        for name in passed:
            await _quietly(hotplug, "closefd", {"fdname": name})
        raise HypervisorError(f"plug in network interface {nic.id}: {error}") from error


def _kinds(nic: Nic) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return (("tap", nic.taps), ("vhost", nic.vhosts))


async def _remove_backend(hotplug: Hotplug, netdev: str) -> None:
    await _quietly(hotplug, "netdev_del", {"id": netdev})


async def _quietly(hotplug: Hotplug, command: str, arguments: dict[str, str]) -> None:
    """Take back what may be gone already."""
    try:
        await hotplug.execute(command, arguments)
    except (QmpError, VmGoneError):
        return
