"""Where disks are, for QEMU and for the guest, on each kind of bus."""

from __future__ import annotations

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.hotplug import addresses
from hypervisor.hotplug.slots import PciSlot


def test_virtio_blk_on_pci_has_a_slot_and_the_guest_its_path():
    address = addresses.pci(PciSlot(0, 5))
    assert (address.front_end, address.driver, address.text) == ("virtio-blk-pci", "blk", "02/05")
    assert address.properties == {"bus": "pci-bridge-0", "addr": "0x5"}


@pytest.mark.parametrize(("number", "text"), [(0, "0:0"), (255, "0:255"), (256, "1:0"), (65535, "255:255")])
def test_a_scsi_unit_is_target_and_lun(number: int, text: str):
    address = addresses.scsi("scsi0.0", number)
    assert (address.front_end, address.driver, address.text) == ("scsi-hd", "scsi", text)
    target, lun = map(int, text.split(":"))
    assert address.properties == {"bus": "scsi0.0", "channel": 0, "scsi-id": target, "lun": lun}


def test_a_channel_device_is_of_the_virtual_subsystem_for_qemu_and_of_the_first_for_the_guest():
    address = addresses.ccw(1, 0x2A)
    assert (address.front_end, address.driver, address.text) == ("virtio-blk-ccw", "blk-ccw", "0.1.002a")
    assert address.properties == {"devno": "fe.1.002a"}


@pytest.mark.parametrize(
    ("number", "node"), [(0, "/dev/vda"), (25, "/dev/vdz"), (26, "/dev/vdaa"), (702, "/dev/vdaaa")]
)
def test_a_memory_mapped_disk_is_known_by_its_order(number: int, node: str):
    address = addresses.mmio(number)
    assert (address.front_end, address.driver, address.text) == ("virtio-blk-device", "mmioblk", node)
    assert address.properties == {}


def test_places_that_there_are_not_are_refused():
    with pytest.raises(HypervisorError, match="no free SCSI unit"):
        addresses.scsi("scsi0.0", 65536)
    with pytest.raises(HypervisorError, match="no free channel device"):
        addresses.ccw(4, 0)
