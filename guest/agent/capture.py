"""Programs whose input is given and whose output is wanted: run to their end, with what they said, in bounds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from guest.agent import spawn
from guest.agent.reaper import Reaper

_CHUNK = 1 << 16


class Outcome:
    """How a program ended: its exit status, and the first bytes of what it wrote."""

    __slots__ = ("status", "stderr", "stdout")

    def __init__(self, status: int, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def reason(self) -> str:
        """Why it failed, in its own words or by its status."""
        return self.stderr.decode("utf-8", "replace").strip() or f"it ended with status {self.status}"


class _Drain:
    """Takes what comes out of a pipe so that its writer never stands still, and keeps the first `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # The program does not expect its output to be non-blocking; a pipe's ends have flags of their own.
        os.set_blocking(self.write_end, True)
        asyncio.get_running_loop().add_reader(self._read_end, self._take)

    def _take(self) -> bool:
        try:
            data = os.read(self._read_end, _CHUNK)
        except BlockingIOError:
            return False
        self._kept += data[: self._limit - len(self._kept)]
        if not data:
            asyncio.get_running_loop().remove_reader(self._read_end)
        return bool(data)

    def finish(self) -> bytes:
        """What is kept, with what is in the pipe now; whoever still writes gets SIGPIPE."""
        for _ in range(1 + self._limit // _CHUNK + 16):
            if not self._take():
                break
        self.close()
        return bytes(self._kept)

    def close_write_end(self) -> None:
        """The program has its own by now."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        """Give the pipe up; idempotent."""
        self.close_write_end()
        if self._read_end >= 0:
            asyncio.get_running_loop().remove_reader(self._read_end)
            os.close(self._read_end)
            self._read_end = -1


async def run(
    arguments: Sequence[str], reaper: Reaper, timeout: float, *, stdin: bytes = b"", limit: int = 1 << 20
) -> Outcome:
    """Run a program with `stdin` as its input; `limit` bytes of its output and of its errors are kept.

    Raises `InternalError` if it can't be run and `DeadlineError` past `timeout` seconds, when it is killed.
    """
    output, errors = _Drain(limit), _Drain(limit)
    try:
        source = _file_of(stdin)
        try:
            pid = spawn.start(arguments, (source, output.write_end, errors.write_end))
        finally:
            os.close(source)
        output.close_write_end()
        errors.close_write_end()
        status = await spawn.finished(pid, os.path.basename(arguments[0]), reaper, timeout)
        return Outcome(status, output.finish(), errors.finish())
    finally:
        output.close()
        errors.close()


def _file_of(data: bytes) -> int:
    """An open file in memory that holds `data`: input of any size without a writer that has to wait."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
