"""Waiting for a change in directories of the guest's own: inotify(7). It sees nothing of changes behind a share."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Iterable

_IN_MODIFY, _IN_ATTRIB, _IN_CLOSE_WRITE = 0x2, 0x4, 0x8
_IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE, _IN_DELETE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400
_IN_DONT_FOLLOW = 0x02000000
_MASK = (
    _IN_MODIFY | _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
    | _IN_DELETE_SELF | _IN_DONT_FOLLOW
)  # fmt: skip
_BUFFER = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """Watches files and directories; `wait` returns after something has happened to one of them."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")

    def watch(self, paths: Iterable[str]) -> None:
        """Watch these too; one that is gone is left out, its directory tells of that."""
        for path in paths:
            try:
                _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), _MASK), path)
            except FileNotFoundError:
                continue

    async def wait(self) -> None:
        """Return when something has happened since the last call."""
        loop = asyncio.get_running_loop()
        happened: asyncio.Future[None] = loop.create_future()

        def on_readable() -> None:
            if not happened.done():
                happened.set_result(None)

        loop.add_reader(self._fd, on_readable)
        try:
            await happened
        finally:
            loop.remove_reader(self._fd)
        self._drain()

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self._fd)

    def _drain(self) -> None:
        try:
            while os.read(self._fd, _BUFFER):
                pass
        except BlockingIOError:
            return


def _checked(result: int, what: str) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result
