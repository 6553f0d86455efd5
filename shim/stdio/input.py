"""Where input comes from: the read end of a FIFO that clients open, leave and open again."""

from __future__ import annotations

import logging
import os
import stat

from sandbox.errors import InvalidArgumentError
from shim.stdio.readiness import Watched

_log = logging.getLogger(__name__)


class FifoSource:
    """Standard input from a FIFO; raises `InvalidArgumentError` if it can't be opened.

    A write end of our own keeps a client that detaches from ending the input; `close` gives that up (`CloseIO`).
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._keep = -1
        try:
            self._pipe = Watched(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            raise InvalidArgumentError(f"input FIFO {path}: {error.strerror}") from error
        self._ending = False
        try:
            if stat.S_ISFIFO(os.fstat(self._pipe.fd).st_mode):
                self._keep = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            os.close(self._pipe.detach())
            raise InvalidArgumentError(f"input FIFO {path}: {error.strerror}") from error

    async def read(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are some; empty at the end, which a read that fails is too."""
        while not self._pipe.closed:
            try:
                return os.read(self._pipe.fd, size)
            except BlockingIOError:
                # A client that has asked for the end may still hold its end open: what it wrote before is read by now.
                if self._ending:
                    return b""
                await self._pipe.readable()
            except OSError as error:
                # No FIFO: a terminal that was hung up, a directory.
                _log.warning("input %s ends: %s", self._path, error.strerror)
                break
        return b""

    def close(self) -> None:
        """`CloseIO`: the input ends behind what is in the FIFO now; idempotent."""
        self._ending = True
        self._drop_keep()
        self._pipe.wake()

    async def aclose(self) -> None:
        """End the input at once and free the descriptors; idempotent."""
        self._ending = True
        self._drop_keep()
        if not self._pipe.closed:
            os.close(self._pipe.detach())

    def _drop_keep(self) -> None:
        if self._keep >= 0:
            os.close(self._keep)
            self._keep = -1
