"""Writer of cpio archives in the "newc" format, the one that the kernel unpacks as initramfs.

The format is described in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. The same entries
give the same bytes: numbers are given in order, owners are root, times are zero. File contents start at multiples of
four, as the format demands.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_PATH_MAX = 4096
_SIZE_MAX = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """One member: `mode` includes the file type; `rdev` is (major, minor) for device nodes."""

    path: str
    mode: int
    data: bytes = b""
    rdev: tuple[int, int] = (0, 0)


def directory(path: str, mode: int = 0o755) -> Entry:
    """Return a directory. Parents must come before their children."""
    return Entry(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(path, stat.S_IFREG | mode, data)


def symlink(path: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def char_device(path: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """Return a character device node; unlike mknod(2), writing it to an archive needs no privilege."""
    return Entry(path, stat.S_IFCHR | mode, rdev=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the archive of `entries`, in their order.

    Raises ValueError for a path that the kernel would not unpack as meant: absolute, empty, with "..", too long, or
    given twice.
    """
    out = bytearray()
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        _check_path(entry.path, seen)
        _append(out, number, entry)
    _append(out, 0, Entry(_TRAILER, 0))
    return bytes(out)


def _check_path(path: str, seen: set[str]) -> None:
    parts = path.split("/")
    if path == _TRAILER or "" in parts or ".." in parts or "." in parts or "\0" in path or len(path) >= _PATH_MAX:
        raise ValueError(f"not a path for a cpio archive: {path!r}")
    if path in seen:
        raise ValueError(f"twice in the cpio archive: {path!r}")
    seen.add(path)


def _append(out: bytearray, number: int, entry: Entry) -> None:
    if len(entry.data) > _SIZE_MAX:
        raise ValueError(f"too large for a cpio archive: {entry.path!r}")
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    major, minor = entry.rdev
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(name), 0)
    out += _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    _pad(out)
    out += entry.data
    _pad(out)


def _pad(out: bytearray) -> None:
    out += bytes(-len(out) % 4)
