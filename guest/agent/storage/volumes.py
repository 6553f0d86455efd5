"""What is asked of volumes later: how full they are, more room, another size of memory, a fresh look at the share."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from guest.agent import kernel
from guest.agent.beneath import by_fd, open_directory, open_path
from guest.agent.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, failed
from guest.agent.layout import Layout
from guest.agent.mountopts import split_value
from guest.agent.storage import shares
from guest.agent.storage.table import StorageTable, checked_mount_point
from protos.lean.gen.grpc import VolumeCondition, VolumeStatsResponse, VolumeUsage, VolumeUsageUnit

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Storage

#: Entries of the share that are looked at anew; a pod has a handful per container.
MAX_REFRESHED = 4096
_KEPT_FLAGS = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
#: Options that a remount of a tmpfs can change.
_SIZES = ("size", "nr_inodes")


def usage(layout: Layout, path: str) -> VolumeStatsResponse:
    """Bytes and inodes of the file system at a path in Kata's tree (CSI, NodeGetVolumeStats). May block on a share."""
    fd = open_path(layout.shared_run, path, "volume path")
    try:
        status = os.statvfs(by_fd(fd))
    except OSError as error:
        raise failed(f"statistics of {path}", error) from error
    finally:
        os.close(fd)
    unit = status.f_frsize
    blocks = VolumeUsage(
        available=status.f_bavail * unit,
        total=status.f_blocks * unit,
        used=(status.f_blocks - status.f_bfree) * unit,
        unit=VolumeUsageUnit.BYTES,
    )
    inodes = VolumeUsage(
        available=status.f_favail,
        total=status.f_files,
        used=status.f_files - status.f_ffree,
        unit=VolumeUsageUnit.INODES,
    )
    return VolumeStatsResponse(usage=[blocks, inodes], volume_condition=VolumeCondition(abnormal=False, message="OK"))


def resize_memory(table: StorageTable, storage: Storage, layout: Layout) -> None:
    """Give a mounted tmpfs the size in the storage's options; what else it was mounted with stays."""
    mount_point = checked_mount_point(storage.mount_point, layout)
    if storage.driver != "ephemeral" or storage.fstype not in ("", "tmpfs"):
        raise InvalidArgumentError(f"{storage.driver[:40]!r} storages can't be resized in place, only ephemeral ones")
    if table.driver_of(mount_point) != "ephemeral":
        raise NotFoundError(f"there is no ephemeral storage at {mount_point}")
    words = [word for words in storage.options for word in words.split(",")]
    sizes = {key: value for key in _SIZES if (value := split_value(words, key)[0]) is not None}
    for key, value in sizes.items():
        if not value.rstrip("kKmMgG%").isdigit() or len(value) > 20:
            raise InvalidArgumentError(f"{key} {value[:40]!r} is malformed")
    if sizes:
        _remount(layout, mount_point, ",".join(f"{key}={value}" for key, value in sizes.items()))


def _remount(layout: Layout, mount_point: str, data: str) -> None:
    fd = open_directory(layout.shared_run, mount_point)
    try:
        place = by_fd(fd)
        # statvfs shows the mount's flags under the numbers that mount(2) takes.
        flags = os.statvfs(place).f_flag & _KEPT_FLAGS
        kernel.mount("tmpfs", place, "tmpfs", kernel.MS_REMOUNT | flags, data)
    except OSError as error:
        raise failed(f"resize {mount_point}", error) from error
    finally:
        os.close(fd)


def refresh_shares(layout: Layout) -> None:
    """Look at every share and what is right in it, so that the kernel lets go of what the host has unmounted there."""
    for mount_point, fstype, _ in shares.mounts(layout):
        if fstype != "virtiofs":
            continue
        try:
            names = os.listdir(mount_point)
        except OSError:
            continue
        for name in names[:MAX_REFRESHED]:
            try:
                os.stat(f"{mount_point}/{name}", follow_symlinks=False)
            except OSError:
                # That it is gone is what was to be found out.
                continue


def add_swap_file(layout: Layout, path: str) -> None:
    """Swap to a file in Kata's tree that mkswap has prepared."""
    fd = open_path(layout.shared_run, path, "swap file")
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidArgumentError(f"swap file {path} is no file")
        swap_on(by_fd(fd), path)
    finally:
        os.close(fd)


def swap_on(place: str, name: str) -> None:
    """Swap to `place`, which `name` stands for."""
    try:
        kernel.swap_on(place)
    except OSError as error:
        raise FailedPreconditionError(f"swap to {name}: {os.strerror(error.errno or 0)} (is it mkswap's?)") from error
