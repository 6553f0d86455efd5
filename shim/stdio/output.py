"""Where output goes: each sink takes bytes in order, waits while its reader is slow, and never for one that is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Protocol

import anyio

from sandbox.errors import InvalidArgumentError
from shim.stdio.readiness import Watched

#: Seconds that a reader may refuse to read after the stream was closed, before the rest is given up.
PATIENCE = 1.0

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """One output stream. Used by one writer; `aclose` may be called while it waits."""

    async def write(self, data: bytes) -> None:
        """Hand `data` over; returns when that is done, or when nobody can ever read it."""

    async def aclose(self) -> None:
        """Give up what nobody reads, close; idempotent."""


class Discard:
    """Output that nobody asked for."""

    async def write(self, data: bytes) -> None:
        """Drop it."""

    async def aclose(self) -> None:
        """Nothing to close."""


class PipeSink:
    """The write end of a pipe or FIFO; owns its descriptors.

    With `keep`, a read end of our own, a reader that goes away (containerd's restart) neither breaks the pipe nor
    ends it for the next one: writes wait until there is a reader again. `aclose` drops it first, and a pipe without
    any reader then breaks at once.
    """

    def __init__(self, fd: int, keep: int = -1) -> None:
        os.set_blocking(fd, False)
        self._pipe = Watched(fd)
        self._keep = keep
        self._idle = asyncio.Event()
        self._idle.set()
        self._progress = 0.0

    async def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._idle.clear()
        self._progress = time.monotonic()
        try:
            await self._write(memoryview(data))
        finally:
            self._idle.set()

    async def _write(self, data: memoryview) -> None:
        while data and not self._pipe.closed:
            try:
                written = os.write(self._pipe.fd, data)
            except BlockingIOError:
                await self._pipe.writable()
            except OSError:
                # EPIPE: the last reader is gone, and ours was given up.
                return
            else:
                data = data[written:]
                self._progress = time.monotonic()

    async def aclose(self) -> None:
        """See `Sink`; waits as long as a reader takes what is being written, at most `PATIENCE` between two reads."""
        keep, self._keep = self._keep, -1
        if keep >= 0:
            _close(keep, "an output")
            self._pipe.wake()
        while not self._idle.is_set() and (left := self._progress + PATIENCE - time.monotonic()) > 0:
            with anyio.move_on_after(left):
                await self._idle.wait()
        if not self._pipe.closed:
            _close(self._pipe.detach(), "an output")


class FileSink:
    """A file that output is appended to."""

    def __init__(self, path: str) -> None:
        try:
            Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            # Without waiting: what has the file's name may be a FIFO that nobody reads.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o644)
        except OSError as error:
            raise InvalidArgumentError(f"log file {path}: {error.strerror}") from error
        self._path = path

    async def write(self, data: bytes) -> None:
        """Append `data`; what a full disk can't take is lost, and logged."""
        view = memoryview(data)
        while view and self._fd >= 0:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError as error:
                _log.warning("%s: %d bytes of output lost: %s", self._path, len(view), error.strerror)
                return

    async def aclose(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _close(fd, self._path)


def _close(fd: int, what: str) -> None:
    """Close it; what the file system tells only now, as one on a network may, is logged."""
    try:
        os.close(fd)
    except OSError as error:
        _log.warning("%s: output may be lost: %s", what, error.strerror)


def open_fifo(path: str) -> PipeSink:
    """The write side of a FIFO, whether or not somebody reads it; raises `InvalidArgumentError`.

    A file in its place is appended to, as by containerd's runc shim: both outputs may go to the same one.
    """
    try:
        keep = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArgumentError(f"output FIFO {path}: {error.strerror}") from error
    try:
        return PipeSink(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC), keep)
    except OSError as error:
        os.close(keep)
        raise InvalidArgumentError(f"output FIFO {path}: {error.strerror}") from error
