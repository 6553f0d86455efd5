"""What drivers share: one mount in Kata's tree, and its undoing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from guest.agent import kernel
from guest.agent.beneath import by_fd, open_directory
from guest.agent.errors import FailedPreconditionError, InternalError, failed
from guest.agent.layout import Layout
from guest.agent.log import log
from guest.agent.mountopts import MountOptions
from guest.agent.names import is_beneath

DIRECTORY_MODE = 0o755


def mount_in(layout: Layout, source: str, mount_point: str, fstype: str, options: MountOptions) -> Callable[[], None]:
    """Mount on a directory in Kata's tree, made if missing; returns the undoing."""
    fd = open_directory(layout.shared_run, mount_point, DIRECTORY_MODE)
    try:
        mount_on(fd, source, mount_point, fstype, options)
    finally:
        os.close(fd)
    return lambda: take_down(layout, mount_point)


def take_down(layout: Layout, mount_point: str) -> None:
    """Unmount, and remove the empty directory unless it is the host's; what is still in use goes with its last user."""
    try:
        kernel.unmount(mount_point)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        log.info("%s is in use and goes with its last user", mount_point)
        kernel.unmount(mount_point, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)
    if not is_beneath(mount_point, layout.shared_containers) and mount_point != layout.shared_containers:
        try:
            os.rmdir(mount_point)
        except OSError:
            # A file, or somebody has put something there before the mount: theirs to remove.
            return


def mount_on(fd: int, source: str, mount_point: str, fstype: str, options: MountOptions) -> None:
    """Mount on exactly what `fd` is open on; `mount_point` is its name, for errors."""
    try:
        kernel.mount(source, by_fd(fd), fstype, options.flags, options.data)
        if options.flags & kernel.MS_BIND and options.flags & kernel.MS_RDONLY:
            _make_read_only(mount_point, options.flags)
        if options.propagation:
            kernel.mount("none", mount_point, "", options.propagation)
    except OSError as error:
        raise mount_failed(source, mount_point, fstype, error) from error


def mount_failed(source: str, mount_point: str, fstype: str, error: OSError) -> InternalError | FailedPreconditionError:
    """What a refused mount means, in words that say more than the kernel's."""
    if error.errno == errno.ENODEV and fstype:
        return FailedPreconditionError(f"mount {source}: the guest's kernel has no file system {fstype}")
    if error.errno in (errno.EINVAL, errno.EUCLEAN) and source.startswith("/dev/"):
        return FailedPreconditionError(f"mount {source}: it holds no valid {fstype} file system, or an option is wrong")
    return failed(f"mount {source} on {mount_point}", error)


def _make_read_only(mount_point: str, flags: int) -> None:
    """A bind mount takes no other flags when it is made; they need a second call (mount(2))."""
    try:
        kernel.mount("none", mount_point, "", kernel.MS_REMOUNT | flags & ~kernel.MS_REC)
    except OSError:
        kernel.unmount(mount_point, kernel.MNT_DETACH)
        raise
