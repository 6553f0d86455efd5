"""Disks of a running VM: a device or an image file of the host, plugged in, and taken out again.

A disk is two things in QEMU: the node (QMP `blockdev-add`), which has the file open, and the front end (`device_add`),
which the guest sees. They are made in that order and removed in the other. QEMU opens image files by itself and locks
them (`file.locking`), so that two VMs can't write one image.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio

from hypervisor.errors import HypervisorError, QmpError, VmGoneError
from hypervisor.hotplug import addresses
from hypervisor.hotplug.addresses import DiskAddress
from hypervisor.hotplug.plug import Hotplug
from hypervisor.hotplug.slots import PciSlot

Bus = Literal["virtio-scsi", "virtio-blk"]
Aio = Literal["threads", "native", "io_uring"]

#: The SCSI controller, which is plugged in with the first disk that needs it; its bus is named by QEMU.
CONTROLLER = "scsi0"
#: Seconds for QEMU to open an image: it may lie on a slow network file system.
OPEN_TIMEOUT = 15.0
#: QEMU's words for a node that it does not have.
_NO_NODE = "Failed to find node"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiskSettings:
    """How disks are attached. `direct` and `no_flush` of None are QEMU's own choice; sector sizes in bytes, 0 too."""

    bus: Bus = "virtio-scsi"
    aio: Aio = "io_uring"
    direct: bool | None = None
    no_flush: bool | None = None
    logical_sector: int = 0
    physical_sector: int = 0


@dataclass(frozen=True)
class DiskImage:
    """What a disk shows: a block device of the host or an image file; `path` has no symbolic links."""

    path: Path
    is_device: bool
    read_only: bool


@dataclass(frozen=True)
class Disk:
    """A disk that is plugged in."""

    id: str
    image: DiskImage
    address: DiskAddress
    slot: PciSlot | None = None


def node(name: str, image: DiskImage, settings: DiskSettings) -> dict[str, Any]:
    """The arguments of `blockdev-add`.

    QEMU takes `native` only with O_DIRECT, so that is implied. Blocks that the guest discards are given back.
    """
    direct = True if settings.aio == "native" else settings.direct
    cache = {"direct": direct, "no-flush": settings.no_flush}
    chosen = {key: value for key, value in cache.items() if value is not None}
    file: dict[str, Any] = {
        "driver": "host_device" if image.is_device else "file",
        "filename": str(image.path),
        "aio": settings.aio,
        "locking": "auto",
    }
    common: dict[str, Any] = {"read-only": image.read_only, "discard": "unmap"}
    if chosen:
        common["cache"] = chosen
        file["cache"] = chosen
    return {"driver": "raw", "node-name": name, **common, "file": {**file, **common}}


def front_end(name: str, image: DiskImage, settings: DiskSettings) -> dict[str, Any]:
    """The properties of `device_add`, without the place.

    An error is told to the guest: QEMU's default would stop the whole VM when the host's file system is full.
    """
    properties: dict[str, Any] = {"drive": name, "rerror": "report", "werror": "report"}
    if image.read_only:
        # A disk that several VMs may have open at a time.
        properties["share-rw"] = True
    if settings.logical_sector:
        properties["logical_block_size"] = settings.logical_sector
    if settings.physical_sector:
        properties["physical_block_size"] = settings.physical_sector
    return properties


class Disks:
    """The disks of one VM."""

    def __init__(self, hotplug: Hotplug, settings: DiskSettings) -> None:
        self._hotplug = hotplug
        self._settings = settings
        self._units: set[int] = set()
        self._has_controller = False
        #: One change at a time: of the controller, of the units, and of the guest's look at its buses.
        self._changing = anyio.Lock()

    async def attach(self, disk_id: str, image: DiskImage) -> Disk:
        """Plug in a disk named `disk_id`, a new name; raises `HypervisorError`, and nothing is left then.

        What can't be undone keeps its place.
        """
        async with self._changing:
            slot, address = await self._place(disk_id)
            disk = Disk(disk_id, image, address, slot)
            try:
                await self._open(disk)
                properties = front_end(disk_id, image, self._settings)
                await self._hotplug.add(address.front_end, f"{disk_id}-dev", properties | address.properties)
            except BaseException:
                if await self._undone(disk):
                    self._give_back(disk)
                raise
        return disk

    async def detach(self, disk: Disk) -> None:
        """Take a disk out; raises `HypervisorError` when the guest does not let go of it, and QEMU keeps it open then.

        A VM that is gone has let go of everything.
        """
        async with self._changing:
            try:
                await self._hotplug.remove(f"{disk.id}-dev")
                await self._hotplug.execute("blockdev-del", {"node-name": disk.id})
            except VmGoneError:
                pass
            self._give_back(disk)

    async def _open(self, disk: Disk) -> None:
        """Have QEMU open it; where the host has no io_uring (or forbids it), with threads."""
        arguments = node(disk.id, disk.image, self._settings)
        try:
            await self._hotplug.execute("blockdev-add", arguments, OPEN_TIMEOUT)
        except QmpError as error:
            if self._settings.aio != "io_uring" or "io_uring" not in str(error):
                raise HypervisorError(f"open {disk.image.path}: {error}") from error
            _log.warning("block_device_aio: %s; threads are used instead", error)
            arguments["file"]["aio"] = "threads"
            try:
                await self._hotplug.execute("blockdev-add", arguments, OPEN_TIMEOUT)
            except QmpError as again:
                raise HypervisorError(f"open {disk.image.path}: {again}") from again

    async def _undone(self, disk: Disk) -> bool:
        """After a node or a front end that did not come, or whose coming nobody waited for; whether there is none."""
        with anyio.CancelScope(shield=True):
            try:
                await self._hotplug.remove(f"{disk.id}-dev")
                await self._hotplug.execute("blockdev-del", {"node-name": disk.id})
            except VmGoneError:
                return True
            except HypervisorError as error:
                if _NO_NODE not in str(error):
                    _log.warning("disk %s is left in the VM: %s", disk.id, error)
                    return False
        return True

    async def _place(self, disk_id: str) -> tuple[PciSlot | None, DiskAddress]:
        if self._settings.bus == "virtio-blk":
            slot = self._hotplug.slots.take(disk_id)
            return slot, addresses.pci(slot)
        await self._plug_controller()
        number = next(number for number in range(len(self._units) + 1) if number not in self._units)
        address = addresses.scsi(f"{CONTROLLER}.0", number)
        self._units.add(number)
        return None, address

    async def _plug_controller(self) -> None:
        if self._has_controller:
            return
        slot = self._hotplug.slots.take(CONTROLLER)
        try:
            # To the end, whoever gives up: there can be no other of its name.
            with anyio.CancelScope(shield=True):
                await self._hotplug.add("virtio-scsi-pci", CONTROLLER, slot.properties)
        except HypervisorError:
            self._hotplug.slots.give_back(slot)
            raise
        self._has_controller = True

    def _give_back(self, disk: Disk) -> None:
        if disk.slot is not None:
            self._hotplug.slots.give_back(disk.slot)
        else:
            place = disk.address.properties
            self._units.discard(place["scsi-id"] * addresses.LUNS_PER_TARGET + place["lun"])
