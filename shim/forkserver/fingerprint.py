"""What the imported code was read from, to notice that it has changed on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


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
