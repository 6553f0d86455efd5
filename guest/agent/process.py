"""One process of a container, init or exec: its pid, its streams, its end.

Life: made around a child that runs already, *ended* when the reaper says so, *closed* when its streams are given up.
The end never waits for the streams, nor the streams for the end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from guest.agent import terminal
from guest.agent.errors import FailedPreconditionError, InternalError
from guest.agent.spawn import Stdio
from guest.agent.streams import InputStream, OutputStream

_F_SETPIPE_SZ = 1031
#: What an output pipe holds unless the command line says otherwise, in bytes: an answer's worth (`streams.MAX_READ`),
#: so that the process goes on while one is on its way.
OUTPUT_PIPE_SIZE = 1 << 20


class Streams:
    """The agent's ends of a process' streams; with a terminal there is no standard error of its own."""

    __slots__ = ("stderr", "stdin", "stdout", "terminal")

    def __init__(self, stdin: InputStream, stdout: OutputStream, stderr: OutputStream | None) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        #: The terminal's master end, for its size; None for pipes. Owned by `stdout`'s twin descriptor.
        self.terminal: int | None = None

    @property
    def drained(self) -> bool:
        """Whether all output has been delivered to its end."""
        return self.stdout.closed and (self.stderr is None or self.stderr.closed)

    def writer_exited(self) -> None:
        """The process has exited: nobody reads its input any more, and a quiet output counts as ended."""
        self.stdin.close()
        self.stdout.writer_exited()
        if self.stderr is not None:
            self.stderr.writer_exited()

    def close(self) -> None:
        """Give up all streams; idempotent."""
        self.stdin.close()
        self.stdout.close()
        if self.stderr is not None:
            self.stderr.close()
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None


class Pipes:
    """Three pipes: our ends as `streams`, the child's as `child`, which must be closed after the child was started."""

    __slots__ = ("child", "streams")

    def __init__(self, size: int = 0) -> None:
        ends: list[int] = []
        try:
            for capacity in (size, size or OUTPUT_PIPE_SIZE, size or OUTPUT_PIPE_SIZE):
                ends += os.pipe2(os.O_CLOEXEC)
                _set_size(ends[-1], capacity)
        except OSError as error:
            for fd in ends:
                os.close(fd)
            raise InternalError(f"cannot make pipes: {error.strerror}") from error
        for fd in (ends[1], ends[2], ends[4]):
            os.set_blocking(fd, False)
        self.child: Stdio = (ends[0], ends[3], ends[5])
        self.streams = Streams(InputStream(ends[1]), OutputStream(ends[2]), OutputStream(ends[4]))

    def close_child(self) -> None:
        """Close the child's ends, so that the end of output shows; idempotent."""
        for fd in self.child:
            if fd is not None:
                os.close(fd)
        self.child = (None, None, None)


def terminal_streams(master: int) -> Streams:
    """Streams of a terminal; takes `master` over."""
    streams = Streams(InputStream(os.dup(master), keep_open=True), OutputStream(os.dup(master)), None)
    streams.terminal = master
    return streams


def _set_size(fd: int, size: int) -> None:
    if not size:
        return
    import fcntl

    try:
        fcntl.fcntl(fd, _F_SETPIPE_SZ, size)
    except PermissionError:
        # Beyond /proc/sys/fs/pipe-max-size: what the kernel gave will do.
        return


class Process:
    """An init or exec that has been started by crun and is a child of the agent."""

    def __init__(self, exec_id: str, pid: int, streams: Streams, ended: asyncio.Future[int]) -> None:
        self.exec_id = exec_id
        self.pid = pid
        self.streams = streams
        #: Whether somebody has been told the exit status.
        self.waited = False
        #: Monotonic seconds of the end; 0 before it.
        self.ended_at = 0.0
        self._ended = ended
        self._callbacks: list[Callable[[], None]] = []
        ended.add_done_callback(self._on_end)

    @property
    def ended(self) -> bool:
        """Whether the process has exited."""
        return self._ended.done()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the process exits, before any waiter is told."""
        self._callbacks.append(callback)

    async def wait(self) -> int:
        """The exit status (128 plus the signal for a killed process); any number may wait."""
        status = await asyncio.shield(self._ended)
        self.waited = True
        return status

    def signal(self, number: int) -> None:
        """Send a signal; to a process that has ended it is no error, as in Kata's protocol."""
        if not self.ended:
            os.kill(self.pid, number)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal."""
        if self.streams.terminal is None:
            raise FailedPreconditionError("the process has no terminal")
        terminal.resize(self.streams.terminal, rows, columns)

    def _on_end(self, ended: asyncio.Future[int]) -> None:
        self.ended_at = time.monotonic()
        self.streams.writer_exited()
        for callback in self._callbacks:
            callback()
