"""A message that has never been in this process' memory: its end is in a pipe, and goes from there to the transport."""

from __future__ import annotations

import os


class PipedMessage:
    """An encoded message: `head`, then `size` bytes out of the pipe `fd`, which it owns. Sent once, then closed."""

    __slots__ = ("fd", "head", "size")

    def __init__(self, head: bytes, fd: int, size: int) -> None:
        self.head = head
        self.fd = fd
        self.size = size

    def read(self) -> bytes:
        """What is still in the pipe, of `size` bytes at most: for a transport that takes nothing but bytes."""
        return read_pipe(self.fd, self.size)

    def close(self) -> None:
        """Give the pipe up; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    #: A message that was never sent, because its call was over, gives its pipe up as well.
    __del__ = close


def read_pipe(fd: int, size: int) -> bytes:
    """At most `size` bytes that are in a pipe now; less if it holds less."""
    pieces = []
    while size:
        try:
            piece = os.read(fd, size)
        except BlockingIOError:
            break
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
