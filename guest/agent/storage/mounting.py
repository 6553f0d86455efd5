"""What drivers share: one mount in Kata's tree, and its undoing."""

from __future__ import annotations

import os
from collections.abc import Callable

from guest.agent import kernel
from guest.agent.beneath import by_fd, open_directory
from guest.agent.errors import failed
from guest.agent.layout import Layout
from guest.agent.mountopts import MountOptions

DIRECTORY_MODE = 0o755


def mount_in(layout: Layout, source: str, mount_point: str, fstype: str, options: MountOptions) -> Callable[[], None]:
    """Mount on a directory in Kata's tree, made if missing; returns the undoing."""
    fd = open_directory(layout.shared_run, mount_point, DIRECTORY_MODE)
    try:
        mount_on(fd, source, mount_point, fstype, options)
    finally:
        os.close(fd)
    return lambda: kernel.unmount(mount_point, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)


def mount_on(fd: int, source: str, mount_point: str, fstype: str, options: MountOptions) -> None:
    """Mount on exactly what `fd` is open on; `mount_point` is its name, for errors."""
    try:
        kernel.mount(source, by_fd(fd), fstype, options.flags, options.data)
        if options.flags & kernel.MS_BIND and options.flags & kernel.MS_RDONLY:
            _make_read_only(mount_point, options.flags)
        if options.propagation:
            kernel.mount("none", mount_point, "", options.propagation)
    except OSError as error:
        raise failed(f"mount {source} on {mount_point}", error) from error


def _make_read_only(mount_point: str, flags: int) -> None:
    """A bind mount takes no other flags when it is made; they need a second call (mount(2))."""
    try:
        kernel.mount("none", mount_point, "", kernel.MS_REMOUNT | flags & ~kernel.MS_REC)
    except OSError:
        kernel.unmount(mount_point, kernel.MNT_DETACH)
        raise
