"""The last bytes of a stream that somebody else writes: bounded, and never in the writer's way.

QEMU's and virtiofsd's standard error and the guest's console end here. All three are hostile in the sense that their
volume is not ours to decide, so a tail keeps a fixed number of bytes and reads a fixed number per wake-up.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

#: Bytes kept of one stream.
KEEP = 16 * 1024
#: Bytes read per wake-up, so that a chatty writer can't hold the event loop.
READ_SIZE = 64 * 1024
#: Reads at the end of a stream whose writer may live on in a grandchild.
LAST_READS = 16
#: Longest line handed to `on_line`, in bytes; longer ones are cut in pieces.
LINE_LIMIT = 4096


class Tail:
    """The last `keep` bytes fed to it."""

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._bytes = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Append `data`, forget what is older than the last `keep` bytes."""
        self._bytes += data[-self._keep :]
        if len(data) > self._keep or len(self._bytes) > 2 * self._keep:
            self._cut = True
            del self._bytes[: -self._keep]

    def text(self) -> str:
        """What is kept, decoded leniently; starts at the beginning of a line if it has one."""
        kept = bytes(self._bytes[-self._keep :])
        if self._cut or len(self._bytes) > self._keep:
            _, newline, rest = kept.partition(b"\n")
            kept = rest if newline else kept
        return kept.decode("utf-8", "replace")


class LineCutter:
    """Cuts a byte stream into lines of at most `LINE_LIMIT` bytes and hands them on as text."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._partial = b""

    def feed(self, data: bytes) -> None:
        """Hand on each line that `data` completes."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._emit(line)
        if len(self._partial) > LINE_LIMIT:
            self.flush()

    def flush(self) -> None:
        """Hand on what is left without its newline."""
        partial, self._partial = self._partial, b""
        self._emit(partial)

    def _emit(self, line: bytes) -> None:
        for start in range(0, len(line), LINE_LIMIT):
            self._on_line(line[start : start + LINE_LIMIT].decode("utf-8", "replace").rstrip("\r"))


class TailReader:
    """Reads a descriptor on the running event loop into a `Tail`, until its end or `finish()`.

    Takes ownership of `fd` and makes it non-blocking. `on_line` sees every line, for a debug log.
    """

    def __init__(self, fd: int, *, keep: int = KEEP, on_line: Callable[[str], None] | None = None) -> None:
        self.tail = Tail(keep)
        self._fd = fd
        self._lines = LineCutter(on_line) if on_line else None
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable)

    @property
    def closed(self) -> bool:
        """Whether the descriptor has been given back."""
        return self._fd < 0

    def release(self) -> int:
        """Stop reading, and give up the descriptor: it is the caller's, -1 if it has been closed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._loop.remove_reader(fd)
        return fd

    def finish(self) -> None:
        """Take what is there without waiting, then close; for a writer that has died. Idempotent."""
        for _ in range(LAST_READS):
            if self.closed or not self._readable():
                break
        self._close()

    def _readable(self) -> bool:
        """Read once; False when there is nothing more for now, or ever."""
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._close()
            return False
        self.tail.feed(data)
        if self._lines:
            self._lines.feed(data)
        return True

    def _close(self) -> None:
        if self.closed:
            return
        fd, self._fd = self._fd, -1
        self._loop.remove_reader(fd)
        os.close(fd)
        if self._lines:
            self._lines.flush()
