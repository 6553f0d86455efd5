"""What the host has at the paths that mounts name: looked at once, before anything is planned or made."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sandbox.storage import direct, kubernetes, mountinfo
from sandbox.storage.direct import DirectVolume
from sandbox.storage.kubernetes import EmptyDir
from sandbox.storage.mountinfo import MountedAt


class Kind(Enum):
    """What is at a path, symbolic links followed."""

    MISSING = "missing"
    DIRECTORY = "directory"
    FILE = "file"
    BLOCK = "block device"
    SOCKET = "socket"
    OTHER = "other"


@dataclass(frozen=True)
class Memory:
    """A file system in memory: a tmpfs, or huge pages. `size` in bytes, 0 if none was set."""

    fstype: str
    size: int
    page_size: str
    mode: int
    group: int


@dataclass(frozen=True)
class Source:
    """A mount's source."""

    kind: Kind
    #: File system and inode.
    identity: tuple[int, int] = (0, 0)
    #: Major and minor number of a block device.
    number: tuple[int, int] = (0, 0)
    direct: DirectVolume | None = None
    empty_dir: EmptyDir | None = None
    #: What an emptyDir is in memory, if it is.
    memory: Memory | None = None
    #: Mode and group of an emptyDir's directory.
    mode: int = 0o777
    group: int = 0


class HostSources:
    """Looks at sources for one container; the host's mounts are read at most once, and only if they matter."""

    def __init__(self, kubelet_root: Path) -> None:
        self._kubelet_root = kubelet_root
        self._mounts: dict[str, MountedAt] | None = None

    def look(self, paths: Iterable[str]) -> dict[str, Source]:
        """The sources by their paths."""
        return {path: self._look(path) for path in paths}

    def _look(self, path: str) -> Source:
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return Source(Kind.MISSING, direct=direct.find(path))
        kind = _kind(status.st_mode)
        identity = (status.st_dev, status.st_ino)
        number = (os.major(status.st_rdev), os.minor(status.st_rdev))
        volume = kubernetes.empty_dir(path, self._kubelet_root) if kind is Kind.DIRECTORY else None
        if volume is not None:
            return self._empty_dir(path, volume, identity)
        return Source(kind, identity, number, direct=direct.find(path))

    def _empty_dir(self, path: str, volume: EmptyDir, identity: tuple[int, int]) -> Source:
        try:
            status = os.stat(volume.directory)
        except OSError:
            # A part of a volume of another kind.
            return Source(Kind.DIRECTORY, identity)
        mounts = self._mounts = mountinfo.read() if self._mounts is None else self._mounts
        at = mounts.get(volume.directory)
        if path != volume.directory and not volume.part:
            part = _bound_part(mounts, path, volume.directory)
            if part is None:
                return Source(Kind.DIRECTORY, identity)
            volume = EmptyDir(volume.name, volume.directory, part)
        mode, group = stat.S_IMODE(status.st_mode), status.st_gid
        return Source(
            Kind.DIRECTORY, identity, empty_dir=volume, memory=_memory(at, mode, group), mode=mode, group=group
        )


def _bound_part(mounts: dict[str, MountedAt], path: str, volume: str) -> str | None:
    """The part of the volume that the kubelet has bound at `path`, by what is mounted there and below the volume."""
    bound = mounts.get(path)
    if bound is None:
        return None
    place = Path(volume)
    while str(place) not in mounts and place != place.parent:
        place = place.parent
    below = mounts.get(str(place))
    if below is None:
        return None
    volume_root = os.path.normpath(os.path.join(below.root, os.path.relpath(volume, place)))
    return kubernetes.bound_part(bound.root, volume_root)


def _kind(mode: int) -> Kind:
    tests = {
        Kind.DIRECTORY: stat.S_ISDIR,
        Kind.FILE: stat.S_ISREG,
        Kind.BLOCK: stat.S_ISBLK,
        Kind.SOCKET: stat.S_ISSOCK,
    }
    return next((kind for kind, test in tests.items() if test(mode)), Kind.OTHER)


def _memory(at: MountedAt | None, mode: int, group: int) -> Memory | None:
    if at is None or at.fstype not in ("tmpfs", "hugetlbfs"):
        return None
    values = dict(option.partition("=")[::2] for option in at.options)
    return Memory(at.fstype, _bytes(values.get("size", "")), values.get("pagesize", ""), mode, group)


def _bytes(text: str) -> int:
    """The kernel shows sizes in KiB with a `k`, or in bytes."""
    digits = text.rstrip("kKmMgG")
    if not digits.isdigit():
        return 0
    return int(digits) << {"k": 10, "m": 20, "g": 30}.get(text[len(digits) :].lower(), 0)
