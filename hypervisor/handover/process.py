"""A QEMU under a guardian, watched as `hypervisor.process.ChildProcess` is, though it is nobody's child here."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from hypervisor.process import UNKNOWN_STATUS
from hypervisor.tail import TailReader

#: Seconds for the guardian to tell the exit status of a QEMU that has ended.
ANSWER_TIMEOUT = 1.0
#: What a shell adds to a signal's number for its exit status.
_SIGNALLED = 128


class GuardedProcess:
    """A running or ended QEMU. Owns the descriptors: `lifeline` and `answer` are its guardian's, `pidfd` is its own."""

    def __init__(self, pid: int, pidfd: int, lifeline: int, answer: int, stderr: TailReader) -> None:
        self.pid = pid
        #: Exit status, or minus the signal's number; None while it runs.
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._lifeline = lifeline
        self._answer = answer
        self._stderr = stderr
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._exit_callbacks: list[Callable[[], None]] = []
        self._deadline: asyncio.TimerHandle | None = None
        os.set_blocking(answer, False)
        self._loop.add_reader(pidfd, self._has_ended)

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

    def release(self) -> tuple[int, int, int, int]:
        """Stop watching: pidfd, lifeline, answer and standard error are the caller's now.

        Only for a process that runs, once.
        """
        self._loop.remove_reader(self._pidfd)
        released = self._pidfd, self._lifeline, self._answer, self._stderr.release()
        self._pidfd = self._lifeline = self._answer = -1
        return released

    def _has_ended(self) -> None:
        """Ask the guardian how."""
        self._loop.remove_reader(self._pidfd)
        try:
            os.write(self._lifeline, b"\n")
        except OSError:
            # The guardian is gone, and took it along: its answer is an end of file.
            pass
        self._loop.add_reader(self._answer, self._take_answer)
        self._deadline = self._loop.call_later(ANSWER_TIMEOUT, self._ended, UNKNOWN_STATUS)

    def _take_answer(self) -> None:
        try:
            text = os.read(self._answer, 32)
        except BlockingIOError:
            return
        status = int(text) if text.strip().isdigit() else _SIGNALLED + signal.SIGKILL
        self._ended(_SIGNALLED - status if status > _SIGNALLED else status)

    def _ended(self, returncode: int) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._loop.remove_reader(self._answer)
        self.returncode = returncode
        for fd in (self._pidfd, self._lifeline, self._answer):
            os.close(fd)
        self._pidfd = self._lifeline = self._answer = -1
        self._stderr.finish()
        self._exited.set()
        callbacks, self._exit_callbacks = self._exit_callbacks, []
        for callback in callbacks:
            callback()
