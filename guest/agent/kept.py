"""Output that stays in the kernel: moved from a process' pipe to one of the agent's, and shown to the transport from
there, so that a stream at full speed costs the agent system calls and no memory. See splice(2) and tee(2).
"""

from __future__ import annotations

import fcntl
import os

from guest.agent import kernel
from ttrpc.piped import PipedMessage, read_pipe

_F_SETPIPE_SZ = 1031
#: Field 1, bytes.
_TAG = b"\x0a"


class KeptOutput:
    """Bytes in a pipe of their own; `size` of them, which is at least one. To be closed."""

    __slots__ = ("_fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def __len__(self) -> int:
        return self.size

    def message(self) -> PipedMessage:
        """A `ReadStreamResponse` with these bytes, which are kept as well. Raises `OSError`."""
        reader, writer = _pipe(self.size)
        try:
            copied = kernel.tee(self._fd, writer, self.size)
            if copied != self.size:
                raise BlockingIOError(f"{copied} of {self.size} bytes fit into a pipe")
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return PipedMessage(_head(self.size), reader, self.size)

    def take(self) -> bytes:
        """The bytes, in memory; this object is closed then."""
        data = read_pipe(self._fd, self.size)
        self.close()
        return data

    def close(self) -> None:
        """Give them up; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


def keep(fd: int, size: int) -> KeptOutput | None:
    """Move up to `size` bytes out of the pipe `fd`; None, and nothing is moved, if that is not possible."""
    try:
        reader, writer = _pipe(size)
    except OSError:
        return None
    try:
        moved = os.splice(fd, writer, size)
    except OSError:
        moved = 0
    finally:
        os.close(writer)
    if not moved:
        os.close(reader)
        return None
    return KeptOutput(reader, moved)


def _pipe(size: int) -> tuple[int, int]:
    """A pipe with a slot for each of the pages, and then some, that `size` bytes may come in."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(writer, _F_SETPIPE_SZ, max(size, 1 << 16))
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    return reader, writer


def _head(size: int) -> bytes:
    out = bytearray(_TAG)
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)
