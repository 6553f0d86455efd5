"""A program on a terminal of its own, as a person's shell would run it: size, keys, what it prints."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.harness.waiting import WaitTimeoutError


class Terminal:
    """The master end; made by `on_terminal`. Reading is what the caller does: nothing runs beside it."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self._process = process
        self.output = ""

    def resize(self, columns: int, rows: int) -> None:
        """Change the size; the kernel tells the program with SIGWINCH."""
        set_size(self._master, columns, rows)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def expect(self, text: str, timeout: float = 30.0) -> str:
        """Wait until `text` was printed; returns all output up to it, and forgets that."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            if not self._read(deadline - time.monotonic()):
                raise WaitTimeoutError(f"{text!r} on the terminal: not within {timeout:g} s, only {self.output!r}")
        before, _, self.output = self.output.partition(text)
        return before + text

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the program's end; returns its exit status. What it printed last is in `output`."""
        deadline = time.monotonic() + timeout
        while self._read(deadline - time.monotonic()):
            pass
        return self._process.wait(max(0.0, deadline - time.monotonic()))

    def _read(self, timeout: float) -> bool:
        """Take in what is printed within `timeout` seconds; False if nothing was, or at the end."""
        if timeout <= 0 or not select.select([self._master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # EIO: nobody has the terminal open any more.
            return False
        self.output += data.decode(errors="replace")
        return bool(data)


def set_size(descriptor: int, columns: int, rows: int) -> None:
    """Set a terminal's size in characters."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def on_terminal(command: Sequence[str], columns: int = 80, rows: int = 24) -> Iterator[Terminal]:
    """Run `command` as the leader of a session on a terminal of this size; killed at the end if it still runs."""
    master, slave = pty.openpty()
    set_size(slave, columns, rows)
    process = subprocess.Popen(["setsid", "--ctty", "--wait", *command], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait(10)
        os.close(master)
