"""Drivers of storage that lives and dies with the sandbox: memory (ephemeral) and directories of the guest (local)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from guest.agent.beneath import by_fd, open_directory, remove_tree
from guest.agent.errors import InvalidArgumentError, UnimplementedError, failed
from guest.agent.layout import Layout
from guest.agent.mountopts import parse, split_value
from guest.agent.storage.context import DriverContext, Undo, blocking, in_turn, quick
from guest.agent.storage.mounting import DIRECTORY_MODE, mount_in

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Storage

#: Kubernetes gives an emptyDir to everybody.
LOCAL_MODE = 0o777
HUGETLBFS = "hugetlbfs"
SET_GROUP_ID = 0o2000
LAST_GROUP = 0xFFFFFFFE


async def attach_ephemeral(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    """Mount a fresh tmpfs or hugetlbfs; the option `fsgid=N` or the storage's group becomes the group of its root."""
    fstype = storage.fstype or "tmpfs"
    if fstype not in ("tmpfs", HUGETLBFS):
        raise UnimplementedError(f"ephemeral storage of type {fstype[:40]!r} is not supported")
    group, rest = _group(storage)
    options = parse(rest)
    undos: list[Undo] = []
    try:
        if fstype == HUGETLBFS:
            from guest.agent.storage import hugepages

            undos.insert(0, quick(hugepages.reserve(context.layout.sys, *hugepages.parse(rest))))
        undos.insert(0, quick(mount_in(context.layout, storage.source or fstype, mount_point, fstype, options)))
        _set_up(context.layout, mount_point, group, None)
    except BaseException:
        await in_turn(*undos)()
        raise
    return in_turn(*undos)


async def attach_local(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    """Make a directory, with the options `mode=` (octal) and `fsgid=`; it goes with all it holds."""
    group, rest = _group(storage)
    mode, rest = split_value(rest, "mode")
    if rest:
        raise InvalidArgumentError(f"local storage does not know the option {rest[0][:100]!r}")
    bits = LOCAL_MODE if mode is None else _octal(mode)
    os.close(open_directory(context.layout.shared_run, mount_point, DIRECTORY_MODE))
    _set_up(context.layout, mount_point, group, bits)
    return blocking(lambda: remove_tree(mount_point))


def _set_up(layout: Layout, path: str, group: int | None, mode: int | None) -> None:
    """Give the directory its mode and its group, which new files in it inherit (setgid) and may write."""
    fd = open_directory(layout.shared_run, path)
    try:
        place = by_fd(fd)
        if group is not None:
            os.chown(place, -1, group)
            mode = (os.stat(place).st_mode & 0o7777 if mode is None else mode) | SET_GROUP_ID | 0o070
        if mode is not None:
            os.chmod(place, mode)
    except OSError as error:
        raise failed(f"set up {path}", error) from error
    finally:
        os.close(fd)


def _group(storage: Storage) -> tuple[int | None, list[str]]:
    """The group that a storage in the guest's memory is for (`fsgid=` or fs_group), and the other options."""
    text, rest = split_value([word for words in storage.options for word in words.split(",")], "fsgid")
    if text is None:
        return (storage.fs_group.group_id if storage.fs_group is not None else None), rest
    if not text.isascii() or not text.isdigit() or int(text) > LAST_GROUP:
        raise InvalidArgumentError(f"fsgid {text[:40]!r} is not a group id")
    return int(text), rest


def _octal(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError as error:
        raise InvalidArgumentError(f"mode {text[:40]!r} is not octal") from error
    if not 0 <= mode <= 0o7777:
        raise InvalidArgumentError(f"mode {text[:40]!r} is out of range")
    return mode
