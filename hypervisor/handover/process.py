"""A QEMU under a guardian, watched as `hypervisor.process.ChildProcess` is, though it is nobody's child here."""

from __future__ import annotations

import asyncio
import os
import signal

from hypervisor.process import UNKNOWN_STATUS
from hypervisor.tail import TailReader
from hypervisor.watched import WatchedProcess

#: Seconds for the guardian to tell the exit status of a QEMU that has ended.
ANSWER_TIMEOUT = 1.0
#: What a shell adds to a signal's number for its exit status.
_SIGNALLED = 128


class GuardedProcess(WatchedProcess):
    """A running or ended QEMU. Owns the descriptors: `lifeline` and `answer` are its guardian's, `pidfd` is its own."""

    def __init__(self, pid: int, pidfd: int, lifeline: int, answer: int, stderr: TailReader) -> None:
        super().__init__(pid, pidfd, stderr)
        self._lifeline = lifeline
        self._answer = answer
        self._deadline: asyncio.TimerHandle | None = None
        os.set_blocking(answer, False)
        self._loop.add_reader(pidfd, self._has_ended)

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
        for fd in (self._pidfd, self._lifeline, self._answer):
            os.close(fd)
        self._pidfd = self._lifeline = self._answer = -1
        self._finish(returncode)
