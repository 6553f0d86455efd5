"""A bell that the kernel rings when something in a directory is made, removed or renamed (inotify(7))."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import anyio

_CREATE, _DELETE, _MOVED = 0x100, 0x200, 0xC0
_MODIFY, _DELETE_SELF, _MOVE_SELF = 0x2, 0x400, 0x800
_ONLYDIR = 0x01000000
#: Room for many events at a time; what they say is not needed.
_BUFFER = 64 * 1024


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


class Bell:
    """One inotify instance, until `close`."""

    def __init__(self) -> None:
        """Raises OSError when the user has too many instances (fs.inotify.max_user_instances)."""
        self._fd = _check(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")

    def watch(self, directory: Path, contents: bool = False) -> None:
        """Ring for `directory` too, with `contents` also for what is written there, and its own end; raises OSError."""
        mask = _CREATE | _DELETE | _MOVED | _ONLYDIR
        if contents:
            mask |= _MODIFY | _DELETE_SELF | _MOVE_SELF
        _check(_libc().inotify_add_watch(self._fd, os.fsencode(directory), mask), str(directory))

    async def rung(self) -> None:
        """Return once it has rung since the last time."""
        await anyio.wait_readable(self._fd)
        self.has_rung()

    def has_rung(self) -> bool:
        """Whether it has rung since it was last asked."""
        rung = False
        try:
            while os.read(self._fd, _BUFFER):
                rung = True
        except BlockingIOError:
            pass
        return rung

    def close(self) -> None:
        """Close it; nobody may be waiting. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
