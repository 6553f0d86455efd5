"""Removes a pod's cgroups from the host, which the kernel allows once no process is in them.

On the path of `delete`: standard library only.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable

_POLL_SECONDS = 0.005


def remove_cgroups(paths: Iterable[str], deadline: float) -> list[str]:
    """Remove cgroups, those without files of their own being gone already; returns those that still have processes at
    `deadline` (of the monotonic clock).
    """
    left = list(paths)
    while left := [path for path in left if not _removed(path)]:
        if time.monotonic() >= deadline:
            break
        # The kernel tells nobody when the last killed process has left a cgroup of version 1.
        time.sleep(_POLL_SECONDS)
    return left


def remove_empty(paths: Iterable[str]) -> None:
    """Remove those cgroups that nobody uses: the innermost first, each tried once."""
    for path in sorted(paths, key=len, reverse=True):
        _removed(path)


def _removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except OSError as error:
        return error.errno not in (errno.EBUSY, errno.ENOTEMPTY)
    return True
