"""A process that is watched by its pidfd on the event loop, and what is known of its end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from hypervisor.tail import TailReader


class WatchedProcess:
    """A running or ended process. Who watches it says how it has ended, once, by `_finish`."""

    def __init__(self, pid: int, pidfd: int, stderr: TailReader) -> None:
        self.pid = pid
        #: Exit status, or minus the signal's number; None while it runs.
        self.returncode: int | None = None
        #: -1 when there is none any more.
        self._pidfd = pidfd
        self._stderr = stderr
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._exit_callbacks: list[Callable[[], None]] = []

    @property
    def stderr_tail(self) -> str:
        """The last that it wrote to standard output and error."""
        return self._stderr.tail.text()

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Have `callback` called on the event loop once its end is known; at once if it is."""
        if self.returncode is None:
            self._exit_callbacks.append(callback)
        else:
            callback()

    async def wait(self) -> int:
        """The return code, as soon as there is one. Any number of callers, cancellable."""
        while self.returncode is None:
            await self._exited.wait()
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL, without waiting; nothing happens if it has ended."""
        if self.returncode is None and self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _finish(self, returncode: int) -> None:
        self.returncode = returncode
        self._stderr.finish()
        self._exited.set()
        callbacks, self._exit_callbacks = self._exit_callbacks, []
        for callback in callbacks:
            callback()
