"""Drivers of disks: found by their address, mounted, given to their group.

`blk` has a PCI path or a node for source, `mmioblk` and `nvdimm` a node, `scsi` an `id:lun`, `blk-ccw` a channel
address.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from guest.agent.devices.blocks import BlockDevice
from guest.agent.errors import InvalidArgumentError, UnimplementedError
from guest.agent.mountopts import parse
from guest.agent.storage import filesystems, groups
from guest.agent.storage.context import DriverContext, Undo, blocking
from guest.agent.storage.mounting import mount_in

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Storage

CREATE_FILESYSTEM = "create_filesystem"
_ENCRYPTION = "encryption_key="


async def attach_disk(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    """Wait for the disk and mount it, after making a file system on it if the driver options say so."""
    create = creates_filesystem(storage.driver_options)
    fstype = filesystems.checked_type(storage.fstype)
    device = await context.devices.block(storage.driver, storage.source)
    if create:
        await filesystems.ensure(device.path, fstype, context.reaper, filesystems.SCRATCH_OPTIONS)
    return await mount_disk(device, storage, mount_point, context)


async def mount_disk(device: BlockDevice, storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    """Mount a disk and give it to the storage's group."""
    options = parse(disk_options(storage.fstype, storage.options))
    arguments = (context.layout, device.path, mount_point, storage.fstype, options)
    undo = blocking(await asyncio.to_thread(mount_in, *arguments))
    if storage.fs_group is not None:
        try:
            read_only = "ro" in storage.options
            await asyncio.to_thread(groups.give, context.layout, mount_point, storage.fs_group, read_only)
        except BaseException:
            await undo()
            raise
    return undo


def disk_options(fstype: str, options: list[str]) -> list[str]:
    """The mount options; snapshots of one XFS carry the same UUID, which XFS refuses unless told otherwise."""
    words = [word for words in options for word in words.split(",")]
    if fstype == "xfs" and "nouuid" not in words:
        words.append("nouuid")
    return words


def creates_filesystem(options: list[str]) -> bool:
    """Whether the driver options ask for a new file system; raises for one that this agent doesn't know."""
    for option in options:
        if option.startswith(_ENCRYPTION):
            raise UnimplementedError("encrypted disks need a confidential data hub, which this guest does not have")
        if option not in (CREATE_FILESYSTEM, f"{CREATE_FILESYSTEM}=true"):
            raise InvalidArgumentError(f"disks do not know the driver option {option[:100]!r}")
    return bool(options)
