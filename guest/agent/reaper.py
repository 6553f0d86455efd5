"""Reaping: every child of the agent, its own and those it inherits as the guest's first process.

One SIGCHLD handler waits for all children, so nothing else in the agent may wait for one. Whoever wants to know how a
process ends asks with `watch`. crun's children become ours when crun exits, and their pids are known only after that,
so ends that happen meanwhile are kept in a `Window`.

Statuses are the shell's: the exit code, or 128 plus the signal.
"""

from __future__ import annotations

import asyncio
import os
import signal

#: Children reaped before the event loop gets its turn again.
BATCH = 128


class Window:
    """While open, remembers the ends of children that nobody watches; `with reaper.window() as window`."""

    __slots__ = ("_ended", "_reaper")

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._ended: dict[int, int] = {}

    def __enter__(self) -> Window:
        self._reaper.windows.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._reaper.windows.discard(self)

    def note(self, pid: int, status: int) -> None:
        """Remember that `pid` ended; called by the reaper."""
        self._ended[pid] = status

    def claim(self, pid: int) -> asyncio.Future[int]:
        """The status of `pid`, whether it has ended since the window was opened or is still to end."""
        future = self._reaper.watch(pid)
        # A pid that exists now was reused since: only this thread reaps, so a dead child would still be a zombie.
        if pid in self._ended and not _exists(pid):
            self._reaper.settle(pid, self._ended[pid])
        return future


class Reaper:
    """Waits for all children of this process; needs a running event loop in the main thread."""

    def __init__(self) -> None:
        self.windows: set[Window] = set()
        self._watched: dict[int, asyncio.Future[int]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        #: By the pid of a child for which it was asked, its name (`comm`) when it ended; empty before.
        self.last_names: dict[int, str] = {}

    def start(self) -> None:
        """Begin to reap."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)
        self.reap()

    def stop(self) -> None:
        """Stop reaping; waiters get no more answers."""
        if self._loop is not None:
            self._loop.remove_signal_handler(signal.SIGCHLD)
            self._loop = None

    def window(self) -> Window:
        """A window for ends of children whose pids are not known yet."""
        return Window(self)

    def watch(self, pid: int) -> asyncio.Future[int]:
        """The status of the child `pid`, which has not been reaped; shared by all who ask."""
        future = self._watched.get(pid)
        if future is None:
            future = self._watched[pid] = asyncio.get_running_loop().create_future()
        return future

    def settle(self, pid: int, status: int) -> None:
        """Record the end of `pid`."""
        future = self._watched.pop(pid, None)
        if future is not None:
            if not future.done():
                future.set_result(status)
            return
        for window in self.windows:
            window.note(pid, status)

    def reap(self) -> None:
        """Wait for the children that have ended, in batches, so that a storm of them can't starve the loop."""
        for _ in range(BATCH):
            try:
                self._keep_name()
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if ended is None:
                return
            self.settle(ended.si_pid, exit_status(ended.si_code, ended.si_status))
        if self._loop is not None:
            self._loop.call_soon(self.reap)

    def _keep_name(self) -> None:
        if self.last_names:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None and ended.si_pid in self.last_names:
                self.last_names[ended.si_pid] = name_of(ended.si_pid)


def name_of(pid: int) -> str:
    """What a process is called by the kernel, also after its end until it is reaped; empty if there is none."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def exit_status(code: int, status: int) -> int:
    """The shell's exit status for waitid's `si_code` and `si_status`."""
    return status if code == os.CLD_EXITED else 128 + status


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
