"""PCI slots for devices that are plugged into a running VM: pure allocation.

Bridges are at fixed addresses (`hypervisor.devices.PciBridge`), so the guest's path to a slot is known beforehand:
Kata's `PciPath`, two hexadecimal digits per bridge and slot, from the root to the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from hypervisor.devices import FIRST_BRIDGE_SLOT, bridge_id
from hypervisor.errors import HypervisorError

#: Slots of a bridge that are given out; 0 stays free, for a bridge with a controller of its own (SHPC) has that there.
FIRST_SLOT, LAST_SLOT = 1, 31


@dataclass(frozen=True, order=True)
class PciSlot:
    """Slot number `slot` on bridge number `bridge`, both as QEMU counts them."""

    bridge: int
    slot: int

    @property
    def bus(self) -> str:
        """QEMU's name of the bridge: the `bus` property of a device."""
        return bridge_id(self.bridge)

    @property
    def addr(self) -> str:
        """The `addr` property of a device on that bus."""
        return f"{self.slot:#x}"

    @property
    def path(self) -> str:
        """Kata's PciPath, e.g. `02/05`."""
        return f"{FIRST_BRIDGE_SLOT + self.bridge:02x}/{self.slot:02x}"

    @property
    def properties(self) -> dict[str, str]:
        """Where a device goes, as `device_add` takes it."""
        return {"bus": self.bus, "addr": self.addr}


class PciSlots:
    """The slots of a VM with so many bridges; each is in use by at most one device.

    A slot rests for as long as it can before it is used again: QEMU takes a write to the eject register for whatever is
    in the slot by then, so a guest's late or repeated eject of the last device would take out the next.
    """

    def __init__(self, bridges: int) -> None:
        self._bridges = bridges
        self._taken: dict[PciSlot, str] = {}
        self._unused = _all_slots(bridges)
        self._freed: deque[PciSlot] = deque()

    @property
    def taken(self) -> dict[PciSlot, str]:
        """Who has which slot."""
        return dict(self._taken)

    def take(self, owner: str) -> PciSlot:
        """The next slot that no device was in yet, else the one that is free for longest, for the device `owner`.

        Raises `HypervisorError` when all are in use.
        """
        slot = next(self._unused, None)
        if slot is None:
            if not self._freed:
                raise HypervisorError(
                    f"no free PCI slot for {owner}: the VM's {self._bridges} bridges have {len(self._taken)} devices "
                    "(default_bridges says how many there are)"
                )
            slot = self._freed.popleft()
        self._taken[slot] = owner
        return slot

    def give_back(self, slot: PciSlot) -> None:
        """The slot is free again; idempotent."""
        if self._taken.pop(slot, None) is not None:
            self._freed.append(slot)


def _all_slots(bridges: int) -> Iterator[PciSlot]:
    """In order, so that a VM's first devices are always at the same places."""
    return (PciSlot(bridge, number) for bridge in range(bridges) for number in range(FIRST_SLOT, LAST_SLOT + 1))
