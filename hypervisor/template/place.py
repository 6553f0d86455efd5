"""Where a store of templates is. Standard library only: uninstalling needs it too."""

from __future__ import annotations

import os
import stat
from pathlib import Path

#: The file in it that builders lock.
LOCK = "lock"


def home(wanted: Path, mounts: str, memory: Path = Path("/dev/shm")) -> Path:
    """Where the store is: at `wanted` if that is on a tmpfs, by the text of mountinfo, else at `fallback`."""
    best, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if wanted.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return wanted if kind == "tmpfs" else fallback(wanted, memory)


def fallback(wanted: Path, memory: Path) -> Path:
    """A directory of `memory` with the wanted path in its name, so that several stores stay apart."""
    return memory / ("kata-template" + str(wanted).replace("-", "--").replace("/", "-"))


def is_private(path: Path) -> bool:
    """Whether it is a directory that nobody but this user can write to. Raises `OSError` if it is not there."""
    about = path.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o022


def is_store(path: Path) -> bool:
    """Whether it is a store, by its lock."""
    try:
        return is_private(path) and (path / LOCK).is_file()
    except OSError:
        return False
