"""Mounts on the host: the system calls, and containerd's mount options as flags and data.

The new mount interface (open_tree, mount_setattr, move_mount; Linux 5.12) attaches a bind mount with its attributes
already set. That matters here: a later remount would not propagate into virtiofsd's namespace, so a read-only volume
would be writable for the guest.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sandbox.errors import InvalidArgumentError, SandboxError, UnimplementedError
from sandbox.interface import Mount

_MS = {
    "ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "sync": 0x10, "remount": 0x20, "mand": 0x40,
    "dirsync": 0x80, "noatime": 0x400, "nodiratime": 0x800, "bind": 0x1000, "rbind": 0x5000, "relatime": 0x200000,
    "strictatime": 0x1000000,
}  # fmt: skip
_MS_CLEAR = {
    "rw": 0x1,
    "suid": 0x2,
    "dev": 0x4,
    "exec": 0x8,
    "async": 0x10,
    "atime": 0x400,
    "diratime": 0x800,
}
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 1 << 20
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_PROPAGATION = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"})

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_ATTR = {"ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x10}

#: mount(2) takes one page of data.
_DATA_LIMIT = 4095


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise SandboxError(f"{what}: {os.strerror(number)}") from OSError(number, os.strerror(number))
    return result


def mount(source: str, target: Path, fstype: str, flags: int, data: str) -> None:
    """mount(2); raises `SandboxError` naming source and target."""
    result = _libc().mount(
        source.encode(), os.fsencode(target), fstype.encode(), ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {fstype or 'bind'} {source} on {target}")


def bind(source: Path | str, target: Path, *, attributes: Sequence[str] = (), recursive: bool = True) -> None:
    """Bind `source` at `target`, with `attributes` (ro, nosuid, nodev, noexec, noatime) set before anybody sees it."""
    what = f"bind {source} on {target}"
    libc = _libc()
    depth = _AT_RECURSIVE if recursive else 0
    tree = _check(
        libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | depth),
        what,
    )
    try:
        wanted = sum(_ATTR[name] for name in set(attributes) if name in _ATTR)
        if wanted:
            attr = _MountAttr(attr_set=wanted, attr_clr=0x70 if "noatime" in attributes else 0)
            size = ctypes.c_size_t(ctypes.sizeof(attr))
            _check(
                libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | depth, ctypes.byref(attr), size),
                what,
            )
        _check(
            libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH),
            what,
        )
    finally:
        os.close(tree)


def make_share_root(path: Path) -> None:
    """Bind `path` on itself as a shared mount: what is mounted below it later reaches virtiofsd's namespace."""
    mount(str(path), path, "", _MS_BIND, "")
    mount("", path, "", _MS_SHARED, "")


def unmount(path: Path) -> None:
    """Detach the mount at `path` with all below it; does nothing if there is none."""
    _libc().umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW)


def parse_options(options: Sequence[str]) -> tuple[int, list[str]]:
    """Split fstab-style options into mount(2) flags and file-system data. Propagation options are dropped.

    Raises `UnimplementedError` for a mount that needs a loop device, or maps ids.
    """
    flags, data = 0, []
    for option in options:
        if option == "loop":
            raise UnimplementedError("a root file system in an image file (mount option loop) is not supported")
        if option.startswith(("uidmap=", "gidmap=")):
            raise UnimplementedError(f"user namespaces (hostUsers: false) are not supported: mount option {option}")
        if option in _MS:
            flags |= _MS[option]
        elif option in _MS_CLEAR:
            flags &= ~_MS_CLEAR[option]
        elif option and option not in _PROPAGATION and option != "defaults":
            data.append(option)
    return flags, data


def mount_rootfs(mounts: Sequence[Mount], target: Path) -> None:
    """Apply the snapshotter's mounts in order onto `target` (containerd `mount.All`).

    Raises `InvalidArgumentError` for a mount that leaves the target, `SandboxError` with the cause when one fails; what
    was mounted before is detached again.
    """
    try:
        for item in mounts:
            _mount_one(item, _inside(target, item.target))
    except BaseException:
        unmount_all(target, len(mounts))
        raise


def unmount_all(target: Path, count: int) -> None:
    """Detach up to `count` mounts that were stacked on `target`."""
    for _ in range(count):
        unmount(target)


def _inside(target: Path, relative: str) -> Path:
    """The place of a mount, also by what symbolic links the mounts below it have: an image may hold any."""
    place = Path(os.path.normpath(target / relative.lstrip("/")))
    for root, point in ((target, place), (Path(os.path.realpath(target)), Path(os.path.realpath(place)))):
        if point != root and root not in point.parents:
            raise InvalidArgumentError(f"rootfs mount target {relative!r} leaves the root file system")
    return place


def _mount_one(item: Mount, target: Path) -> None:
    if "/" in item.type:
        # containerd 2.2 and later: `mkdir/overlay`, `format/erofs`, ... It sends them to shims alone that ask for them.
        raise UnimplementedError(f"rootfs mount of type {item.type!r}: what it asks for first is containerd's to do")
    flags, data = parse_options(item.options)
    if item.type == "bind" or flags & _MS_BIND:
        if not os.path.exists(item.source):
            raise InvalidArgumentError(f"rootfs source {item.source} does not exist")
        bind(item.source, target, attributes=item.options, recursive="rbind" in item.options)
        return
    try:
        with _short_paths(data) as shortened:
            mount(item.source, target, item.type, flags, ",".join(shortened))
    except SandboxError as error:
        # The kernel does not say which of an overlay's directories it has not found.
        missing = [path for option in data for path in _paths(option) if not os.path.exists(path)]
        if missing:
            raise SandboxError(f"{error} ({missing[0]} is not there)") from error
        raise


@contextmanager
def _short_paths(data: list[str]) -> Iterator[list[str]]:
    """Make overlay data that is longer than a page fit, by paths relative to the directory the layers share.

    Images of many layers need this; containerd's own mount code changes directory for the same reason. Safe because the
    daemon makes no other path look-up meanwhile: nothing here awaits.
    """
    if len(",".join(data)) <= _DATA_LIMIT:
        yield data
        return
    base = os.path.commonpath([path for option in data for path in _paths(option)] or ["/"])
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir(base)
    try:
        yield [_relative(option, f"{base}/") for option in data]
    finally:
        os.fchdir(before)
        os.close(before)


def _relative(option: str, base: str) -> str:
    paths = _paths(option)
    return f"{option.partition('=')[0]}={':'.join(path.removeprefix(base) for path in paths)}" if paths else option


def _paths(option: str) -> list[str]:
    key, _, value = option.partition("=")
    return value.split(":") if key in ("lowerdir", "upperdir", "workdir") else []
