"""Drivers of what exists already: the host's share (virtio-fs), and a second place for part of it (bind)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from guest.agent import kernel
from guest.agent.beneath import by_fd, open_directory, open_parent, open_path
from guest.agent.errors import InvalidArgumentError, failed
from guest.agent.layout import Layout
from guest.agent.mountopts import parse
from guest.agent.storage.mounting import DIRECTORY_MODE, mount_in, mount_on

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Storage


async def attach_virtiofs(storage: Storage, mount_point: str, layout: Layout) -> Callable[[], None]:
    """Mount the share whose tag is the storage's source (`kataShared`); one that is mounted there is kept."""
    if not storage.source:
        raise InvalidArgumentError("virtio-fs storage has no source: its tag is missing")
    if is_virtiofs(layout, storage.source, mount_point):
        return _nothing
    return mount_in(layout, storage.source, mount_point, "virtiofs", parse(storage.options))


async def attach_bind(storage: Storage, mount_point: str, layout: Layout) -> Callable[[], None]:
    """Mount a file or directory of Kata's tree on a second place in it."""
    options = parse([*storage.options, "bind"])
    source = open_path(layout.shared_run, storage.source, "bind source")
    try:
        target = _open_target(layout, mount_point, stat.S_ISDIR(os.fstat(source).st_mode))
        try:
            mount_on(target, by_fd(source), mount_point, "", options)
        finally:
            os.close(target)
    finally:
        os.close(source)
    return lambda: kernel.unmount(mount_point, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)


def is_virtiofs(layout: Layout, tag: str, mount_point: str) -> bool:
    """Whether `mount_point` is the share `tag` already (proc(5), mountinfo: the part after the dash)."""
    try:
        with open(f"{layout.proc}/self/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    for line in lines:
        head, _, tail = line.partition(" - ")
        if head.split()[4:5] == [mount_point] and tail.split()[:2] == ["virtiofs", tag]:
            return True
    return False


def _open_target(layout: Layout, mount_point: str, is_directory: bool) -> int:
    if is_directory:
        return open_directory(layout.shared_run, mount_point, DIRECTORY_MODE)
    parent, name = open_parent(layout.shared_run, mount_point, "mount point", DIRECTORY_MODE)
    try:
        flags = os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=parent)
    except OSError as error:
        raise failed(f"make {mount_point}", error) from error
    finally:
        os.close(parent)


def _nothing() -> None:
    """Undo nothing: the share was there before."""
