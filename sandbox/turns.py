"""Whose turn it is to boot: a node boots a few VMs at a time, in the order in which they came.

Booting is work for processors. Were fifty VMs to boot at once on two of them, each would be ready when all are, late,
and some past their deadlines; a few at a time are no slower in all, and the first are ready at once.

Each pod is a process of its own, and there is nobody above them, so the line is made of sockets: who wants to boot
listens at `boot` in its run directory until it has, and is connected to all who stood there before it. They never
accept; their hanging up tells that they are done, or dead: the kernel sees to that. It is its turn when fewer are ahead
than may boot at a time. Taking one's place is exclusive (flock on the parent of the run directories), for an instant.

A line that can't be stood in, or that does not move, is no reason not to boot.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from sandbox.phases import QUEUE, Phases

#: The socket of those in line, in their run directories.
NAME: Final = "boot"
#: Seconds to wait at most, and the share of the caller's own time: the boot is to have the rest.
PATIENCE: Final = 600.0
SHARE: Final = 0.5
#: Seconds to wait for the lock, and between two attempts.
LOCK_TIMEOUT: Final = 5.0
LOCK_PAUSE: Final = 0.003

_BACKLOG = 4096

_log = logging.getLogger(__name__)


@asynccontextmanager
async def turn(directory: Path, most: int, phases: Phases) -> AsyncIterator[None]:
    """Wait until fewer than `most` boots are ahead; the boot of the pod whose run directory it is goes in the block."""
    with ExitStack() as held:
        with phases.phase(QUEUE):
            try:
                await _wait(directory, most, held)
            except OSError as error:
                _log.warning("boots without waiting for its turn: %s", str(error) or "the line stays locked")
        yield


async def _wait(directory: Path, most: int, held: ExitStack) -> None:
    left = anyio.current_effective_deadline() - anyio.current_time()
    with anyio.move_on_after(min(PATIENCE, left * SHARE)) as scope:
        ahead = await _line_up(directory, held)
        try:
            await ahead.shrink_below(most)
        finally:
            ahead.close()
    if scope.cancelled_caught:
        _log.warning("boots before its turn: it has waited for too long")


async def _line_up(directory: Path, held: ExitStack) -> Ahead:
    """Take the last place; it is given up when `held` is closed. Raises `OSError`."""
    fd = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with anyio.fail_after(LOCK_TIMEOUT):
            while not _locked(fd):
                await anyio.sleep(LOCK_PAUSE)
        ahead = Ahead(directory.parent)
        try:
            held.enter_context(_listening(directory / NAME))
        except BaseException:
            ahead.close()
            raise
        return ahead
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listening(path: Path) -> ExitStack:
    """A socket that listens at `path`; both go when the block ends."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        stack.callback(path.unlink, missing_ok=True)
        listener.listen(_BACKLOG)
        return stack.pop_all()


class Ahead:
    """Those who were in line when this one came: it only ever gets shorter. To be closed."""

    def __init__(self, root: Path) -> None:
        """All who listen below `root`. Raises `OSError`."""
        self._epoll = select.epoll()
        self._them: dict[int, socket.socket] = {}
        try:
            with os.scandir(root) as entries:
                for entry in entries:
                    self._add(f"{entry.path}/{NAME}")
        except BaseException:
            self.close()
            raise

    def _add(self, path: str) -> None:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            one.connect(path)
        except OSError:
            # Not in line, or dead.
            one.close()
            return
        self._them[one.fileno()] = one
        # Nothing is asked for: their end is told anyway.
        self._epoll.register(one, 0)

    async def shrink_below(self, most: int) -> None:
        """Return when fewer than `most` are left."""
        while len(self._them) >= most:
            await anyio.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0):
                self._epoll.unregister(fd)
                self._them.pop(fd).close()

    def close(self) -> None:
        """Look no more; idempotent."""
        for one in self._them.values():
            one.close()
        self._them.clear()
        self._epoll.close()
