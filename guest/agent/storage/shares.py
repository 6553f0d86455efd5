"""Drivers of what exists already: the host's share (virtio-fs, 9p), and a second place for part of it (bind)."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from typing import TYPE_CHECKING

from guest.agent.beneath import by_fd, open_directory, open_parent, open_path
from guest.agent.errors import InvalidArgumentError, RpcError, failed
from guest.agent.layout import Layout
from guest.agent.mountopts import parse
from guest.agent.storage.context import DriverContext, Undo, quick
from guest.agent.storage.mounting import DIRECTORY_MODE, mount_in, mount_on, take_down

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Storage

#: How Kata's runtime mounts 9p where the host names no options.
_9P_OPTIONS = ("trans=virtio", "version=9p2000.L", "cache=mmap", "nodev")
#: Seconds for the guest's kernel to find a virtio-fs device, and between two looks: the kernel tells of it nowhere.
TAG_TIMEOUT = 5.0
_TAG_POLL = 0.01


async def attach_virtiofs(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    """Mount the share whose tag is the storage's source (`kataShared`); one that is mounted there is kept.

    A device that is being plugged in is waited for: a VM from a template gets its share that way.
    """
    end = asyncio.get_running_loop().time() + TAG_TIMEOUT
    while True:
        try:
            return _attach_share(storage, mount_point, context.layout, "virtiofs", storage.options)
        except RpcError as error:
            # The kernel's word for a tag that it does not know (yet): the device may just be plugged in.
            if getattr(error.__cause__, "errno", 0) != errno.EINVAL or asyncio.get_running_loop().time() > end:
                raise
        await asyncio.sleep(_TAG_POLL)


async def attach_9p(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    """As virtio-fs, over virtio-9p; the kernel must have it."""
    return _attach_share(storage, mount_point, context.layout, "9p", storage.options or _9P_OPTIONS)


def _attach_share(
    storage: Storage, mount_point: str, layout: Layout, fstype: str, options: list[str] | tuple[str, ...]
) -> Undo:
    if not storage.source or not storage.source.isprintable():
        raise InvalidArgumentError(f"{fstype} storage has no source: its tag is missing")
    if is_mounted(layout, fstype, storage.source, mount_point):
        return quick(_nothing)
    return quick(mount_in(layout, storage.source, mount_point, fstype, parse(options)))


async def attach_bind(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    """Mount a file or directory of Kata's tree on a second place in it."""
    bind(context.layout, storage.source, mount_point, storage.options)
    return quick(lambda: take_down(context.layout, mount_point))


def bind(layout: Layout, source: str, mount_point: str, options: list[str]) -> None:
    """Bind-mount `source`, a path in Kata's tree that leads through no link."""
    fd = open_path(layout.shared_run, source, "bind source")
    try:
        bind_fd(layout, fd, mount_point, options)
    finally:
        os.close(fd)


def bind_fd(layout: Layout, source: int, mount_point: str, options: list[str]) -> None:
    """Bind-mount what `source` is open on."""
    target = _open_target(layout, mount_point, stat.S_ISDIR(os.fstat(source).st_mode))
    try:
        mount_on(target, by_fd(source), mount_point, "", parse([*options, "bind"]))
    finally:
        os.close(target)


def is_mounted(layout: Layout, fstype: str, source: str, mount_point: str) -> bool:
    """Whether that share is mounted there (proc(5), mountinfo: the part after the dash)."""
    return any(mount == (mount_point, fstype, source) for mount in mounts(layout))


def mounts(layout: Layout) -> list[tuple[str, str, str]]:
    """Mount point, type and source of every mount the agent sees."""
    try:
        with open(f"{layout.proc}/self/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        head, _, tail = line.partition(" - ")
        place, kind = head.split()[4:5], tail.split()[:2]
        if place and len(kind) == 2:
            found.append((place[0], kind[0], kind[1]))
    return found


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
