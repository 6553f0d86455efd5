"""Where a hot-plugged disk is, for QEMU and for the guest: pure.

The four ways that Kata's agent protocol knows, each with the front end that QEMU makes, its place, and the address that
the guest finds it by. Which one is possible is the machine's: PCI boards have the first two, s390x has channel devices,
microvm has memory-mapped ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypervisor.errors import HypervisorError
from hypervisor.hotplug.slots import PciSlot

#: Units of one SCSI target, as QEMU numbers them; Kata gives out target and unit from one running number.
LUNS_PER_TARGET = 256
SCSI_TARGETS = 256
#: The virtual channel subsystem of QEMU's ccw devices (`fe`), which guests see as subsystem 0.
_CCW_SUBSYSTEM = "fe"
#: Devices of one channel subsystem set.
CCW_DEVICES = 1 << 16


@dataclass(frozen=True)
class DiskAddress:
    """A place for a disk: `front_end` is QEMU's device, `properties` its place; the guest is told `driver` and `text`.

    `driver` is the name of the driver in Kata's agent protocol, and `text` the address in the form that goes with it.
    """

    front_end: str
    driver: str
    text: str
    properties: dict[str, Any] = field(default_factory=dict)


def pci(slot: PciSlot) -> DiskAddress:
    """virtio-blk in a PCI slot: the guest gets the PCI path, e.g. `02/05`."""
    return DiskAddress("virtio-blk-pci", "blk", slot.path, dict(slot.properties))


def scsi(bus: str, number: int) -> DiskAddress:
    """Unit number `number` on the controller's `bus`: the guest gets `id:lun`, e.g. `0:3`."""
    if not 0 <= number < SCSI_TARGETS * LUNS_PER_TARGET:
        raise HypervisorError(f"no free SCSI unit: {number} disks are plugged in")
    target, lun = divmod(number, LUNS_PER_TARGET)
    place = {"bus": bus, "channel": 0, "scsi-id": target, "lun": lun}
    return DiskAddress("scsi-hd", "scsi", f"{target}:{lun}", place)


def ccw(bus: int, number: int) -> DiskAddress:
    """A channel device of s390x: QEMU's `fe.<set>.<number>` is `0.<set>.<number>` in the guest."""
    if not 0 <= bus <= 3 or not 0 <= number < CCW_DEVICES:
        raise HypervisorError(f"no free channel device: number {number} of set {bus}")
    place = f"{bus:x}.{number:04x}"
    return DiskAddress("virtio-blk-ccw", "blk-ccw", f"0.{place}", {"devno": f"{_CCW_SUBSYSTEM}.{place}"})


def mmio(number: int) -> DiskAddress:
    """Disk number `number`, from 0, on memory-mapped virtio: the guest knows no address, only the order: `/dev/vdb`."""
    return DiskAddress("virtio-blk-device", "mmioblk", f"/dev/vd{_letters(number)}")


def _letters(number: int) -> str:
    """The kernel's names of disks: a to z, then aa, ab, ..."""
    text = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        text = chr(ord("a") + letter) + text
    return text
