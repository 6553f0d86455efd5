"""File systems on disks: which may be mounted, which is there, and a new one on an empty disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from guest.agent import spawn
from guest.agent.errors import FailedPreconditionError, InternalError, InvalidArgumentError, UnimplementedError, failed
from guest.agent.reaper import Reaper

#: What a disk may be mounted as; a storage is no way to the kernel's other file systems.
TYPES = frozenset(
    {"btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "squashfs", "vfat", "xfs"}
)  # fmt: skip
#: ext2, ext3 and ext4: offset and bytes of the superblock's magic number.
_EXT_MAGIC = (1024 + 56, b"\x53\xef")
#: Every file system and partition table that we know has something in its first bytes.
_PROBED = 128 << 10
MKFS = "/usr/sbin/mkfs.ext4"
MKFS_TIMEOUT = 50.0
#: For a disk that lives as long as its pod, as Kata's agent has them: no journal, no reserve for root, few inodes.
SCRATCH_OPTIONS = ("-O", "^has_journal", "-m", "0", "-i", "163840", "-I", "128")


def checked_type(fstype: str) -> str:
    """`fstype` if a disk may be mounted as that."""
    if fstype not in TYPES:
        raise InvalidArgumentError(f"a disk can't be mounted as {fstype[:40]!r}")
    return fstype


async def ensure(path: str, fstype: str, reaper: Reaper, options: Sequence[str] = ()) -> None:
    """Make a file system on the disk at `path` if it is empty; one that is there already is kept.

    Raises `FailedPreconditionError` if something else is on the disk: nothing is overwritten.
    """
    if fstype != "ext4":
        raise UnimplementedError(f"the guest can't make a file system of type {fstype}")
    if await asyncio.to_thread(_is_there, path):
        return
    if not os.path.exists(MKFS):
        raise FailedPreconditionError("the guest image has no mkfs.ext4")
    status = await spawn.run([MKFS, "-q", "-F", *options, path], reaper, MKFS_TIMEOUT)
    if status:
        raise InternalError(f"mkfs.ext4 on {path} ended with status {status}")


def _is_there(path: str) -> bool:
    """Whether ext4 is on the disk; False if nothing is."""
    try:
        with open(path, "rb") as file:
            head = file.read(_PROBED)
    except OSError as error:
        raise failed(f"read {path}", error) from error
    offset, magic = _EXT_MAGIC
    if head[offset : offset + len(magic)] == magic:
        return True
    if head.strip(b"\0"):
        raise FailedPreconditionError(f"{path} is neither empty nor ext4: no file system is made on it")
    return False
