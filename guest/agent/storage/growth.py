"""Growing a mounted file system to its disk, by the kernel's own calls: no program of its tools is needed.

See the kernel's fs/ext4/ioctl.c (EXT4_IOC_RESIZE_FS), ioctl_xfs_fsgrowfs(2), and BTRFS_IOC_RESIZE in linux/btrfs.h.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable

from guest.agent.beneath import by_fd, open_path
from guest.agent.devices import blocks
from guest.agent.devices.finder import DeviceFinder, write_attribute
from guest.agent.devices.uevents import appearance
from guest.agent.errors import FailedPreconditionError, InvalidArgumentError, failed
from guest.agent.storage import shares

_EXT4_RESIZE = 0x40086610
_XFS_GEOMETRY, _XFS_GROW = 0x80705864, 0x4010586E
_XFS_GEOMETRY_SIZE = 112
_BTRFS_RESIZE = 0x50009403
_BTRFS_NAME = 4088


def grow(fd: int, fstype: str, size: int) -> None:
    """Grow the file system that the directory `fd` is on to `size` bytes; nothing if it is that large. `OSError`."""
    status = os.statvfs(fd)
    # Asked for less, ext4 would refuse and btrfs would shrink.
    if size > status.f_blocks * status.f_frsize:
        _GROWERS[fstype](fd, size)


def _grow_ext4(fd: int, size: int) -> None:
    import fcntl

    fcntl.ioctl(fd, _EXT4_RESIZE, struct.pack("=Q", size // os.statvfs(fd).f_frsize))


def _grow_xfs(fd: int, size: int) -> None:
    import fcntl

    geometry = bytearray(_XFS_GEOMETRY_SIZE)
    fcntl.ioctl(fd, _XFS_GEOMETRY, geometry)
    block = struct.unpack_from("=I", geometry, 0)[0]
    inode_percent, present = struct.unpack_from("=IQ", geometry, 28)
    if size // block > present:
        fcntl.ioctl(fd, _XFS_GROW, struct.pack("=QI4x", size // block, inode_percent))


def _grow_btrfs(fd: int, size: int) -> None:
    import fcntl

    fcntl.ioctl(fd, _BTRFS_RESIZE, struct.pack(f"=q{_BTRFS_NAME}s", 0, str(size).encode()))


_GROWERS: dict[str, Callable[[int, int], None]] = {"ext4": _grow_ext4, "xfs": _grow_xfs, "btrfs": _grow_btrfs}


async def resize_volume(finder: DeviceFinder, path: str, size: int) -> None:
    """Grow the volume at a path in Kata's tree to `size` bytes, 0 meaning all of its disk, which the host has grown.

    Raises `InvalidArgumentError` for what is no disk, `FailedPreconditionError` for a file system that can't be grown,
    `DeadlineError` if the disk does not become that large. A volume that is large enough is no error (CSI).
    """
    layout = finder.layout
    target = open_path(layout.shared_run, path, "volume path")
    try:
        device = os.fstat(target).st_dev
        number = os.major(device), os.minor(device)
        fstype = _type_of_disk(finder, path, number)
        await _await_size(finder, path, number, size)
        fd = os.open(by_fd(target), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise failed(f"open {path}", error) from error
    finally:
        os.close(target)
    try:
        await asyncio.to_thread(grow, fd, fstype, size or blocks.size(layout.sys, number))
    except OSError as error:
        raise failed(f"grow {path}", error) from error
    finally:
        os.close(fd)


def _type_of_disk(finder: DeviceFinder, path: str, number: blocks.Number) -> str:
    """The file system at `path`, checked to be one that grows."""
    if not blocks.size(finder.layout.sys, number):
        raise InvalidArgumentError(f"{path} is not on a disk of its own")
    name = os.path.basename(os.path.realpath(f"{finder.layout.sys}/dev/block/{number[0]}:{number[1]}"))
    types = {fstype for _, fstype, source in shares.mounts(finder.layout) if source == f"{finder.layout.dev}/{name}"}
    known = types & _GROWERS.keys()
    if not known:
        raise FailedPreconditionError(f"a file system of type {'/'.join(sorted(types)) or 'unknown'} can't be grown")
    return known.pop()


async def _await_size(finder: DeviceFinder, path: str, number: blocks.Number, size: int) -> None:
    """Have the kernel ask the disk for its size, until it is what the host says."""
    sys = finder.layout.sys

    async def rescan() -> None:
        # Only SCSI disks have to be asked; a virtio disk tells.
        attribute = f"{sys}/dev/block/{number[0]}:{number[1]}/device/rescan"
        if os.path.exists(attribute):
            write_attribute(attribute, "1")

    if not size:
        await rescan()
        return
    await appearance(
        lambda: True if blocks.size(sys, number) >= size else None,
        f"a disk of {size} bytes under {path}",
        finder.timeout,
        rescan,
    )
