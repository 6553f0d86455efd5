"""What the imported code was read from, to notice that it has changed on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from sandbox.sharing.inotify import Bell


class Code:
    """The files that this process has imported from some directories.

    To look at hundreds of files takes milliseconds of every start, so the kernel is asked to tell of changes in their
    directories, and only after one are they looked at. What it does not tell, another directory in the place of one of
    those, the directories themselves show. Where it can't tell, all are looked at every time.
    """

    def __init__(self, roots: Iterable[str]) -> None:
        """`roots` are those directories."""
        self._roots = list(roots)
        self._files = loaded_files(self._roots)
        self._bell = _bell({os.path.dirname(path) for path in self._files})
        self._read = self._places(), fingerprint(self._files)

    def is_current(self) -> bool:
        """Whether they all are what they were."""
        places, read = self._read
        if self._bell is not None and not self._bell.has_rung() and self._places() == places:
            return True
        return fingerprint(self._files) == read

    def _places(self) -> list[int]:
        """The inodes of the directories."""
        return [_of(path)[0] for path in self._roots]


def _bell(directories: Iterable[str]) -> Bell | None:
    try:
        bell = Bell()
    except OSError:
        return None
    try:
        for directory in directories:
            bell.watch(Path(directory), contents=True)
    except OSError:
        bell.close()
        return None
    return bell


def loaded_files(roots: Iterable[str]) -> list[str]:
    """The files below `roots` that this process has imported modules from."""
    prefixes = tuple(root + "/" for root in roots)
    found = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({path for path in found if path and path.startswith(prefixes)})


def fingerprint(paths: Iterable[str]) -> list[tuple[int, int, int]]:
    """Inode, size and time of change of each file; what is gone has none of its own."""
    return [_of(path) for path in paths]


def _of(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns
