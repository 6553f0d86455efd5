"""PCI slots: what QEMU and the guest call them, and how they are given out."""

from __future__ import annotations

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.hotplug.slots import LAST_SLOT, PciSlot, PciSlots


def test_a_slot_has_qemus_name_and_address_and_the_guests_path():
    slot = PciSlot(1, 0x1A)
    assert (slot.bus, slot.addr, slot.path) == ("pci-bridge-1", "0x1a", "03/1a")
    assert slot.properties == {"bus": "pci-bridge-1", "addr": "0x1a"}


def test_slots_are_given_out_once_lowest_first():
    slots = PciSlots(1)
    first, second = slots.take("disk a"), slots.take("disk b")
    assert (first, second) == (PciSlot(0, 1), PciSlot(0, 2))
    assert slots.taken == {first: "disk a", second: "disk b"}


def test_a_slot_rests_until_every_other_was_used_then_the_one_freed_first_comes_first():
    slots = PciSlots(1)
    first, second, third = (slots.take(f"disk {number}") for number in range(3))
    for slot in (second, first, first):
        slots.give_back(slot)
    assert [slots.take("disk") for _ in range(3, LAST_SLOT)] == [PciSlot(0, number) for number in range(4, 32)]
    assert [slots.take("disk"), slots.take("disk")] == [second, first]
    with pytest.raises(HypervisorError, match="no free PCI slot for disk 34"):
        slots.take("disk 34")
    slots.give_back(third)
    assert slots.take("disk 34") == third


def test_the_next_bridge_is_used_when_one_is_full_and_then_there_is_none():
    slots = PciSlots(2)
    taken = [slots.take(f"disk {number}") for number in range(2 * LAST_SLOT)]
    assert len(set(taken)) == 62
    assert taken[31] == PciSlot(1, 1)
    with pytest.raises(HypervisorError, match="no free PCI slot for disk 62: the VM's 2 bridges have 62 devices"):
        slots.take("disk 62")


def test_a_vm_without_bridges_has_no_slots():
    with pytest.raises(HypervisorError, match="no free PCI slot for eth0"):
        PciSlots(0).take("eth0")
