"""The agent's ends of a process' streams: pipes or a terminal, read and written only as the host asks.

Nothing is buffered here beyond the kernel's pipe: a host that does not read makes the process wait, as with any pipe.

End of output. A stream ends when the kernel says so (all writers have closed), at once. When the process has exited
but some descendant still holds the pipe, a read that has found nothing for `QUIET_SECONDS` answers empty, which the
protocol calls the end: Kata's host waits for it before it reports the exit, and must not wait for a daemon that a
container left behind. That answer is not final: a host that reads on gets what the descendant still writes. Data
that is in the pipe is always delivered first, however long ago the process exited.

A lost connection loses answers. A host that says with each call where it stands (`position`, our extension of the
protocol) is given the last answer again if it has not got it, and what it writes a second time is taken once.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys

from guest.agent import kept
from guest.agent.errors import FailedPreconditionError, InvalidArgumentError
from guest.agent.kept import KeptOutput
from ttrpc.piped import PipedMessage

#: What the agent says of itself (`AgentDetails.extra_features`) because of `position`.
POSITION_FEATURE = "stream-position"

QUIET_SECONDS = 1.0
#: A reply must fit a ttrpc frame (4 MiB); a read returns what there is, so more than this gains nothing.
MAX_READ = 1 << 20
#: Who has written this much is likely to be writing more: an answer costs as much time as many kilobytes. So the writer
#: gets the processor, some times, before it is answered with.
BURST = 64 * 1024
BURST_TURNS = 32
_FIONREAD = 0x541B


class OutputStream:
    """The agent's end of standard output or error; owns `fd`, which must be non-blocking."""

    def __init__(self, fd: int, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._fd = fd
        self._quiet_seconds = quiet_seconds
        self._turn = asyncio.Lock()
        self._waiter: asyncio.Future[bool] | None = None
        self._writer_exited = False
        #: Bytes handed out so far, and the last of them, until the host says that it has got them.
        self._given = 0
        self._last: bytes | KeptOutput = b""

    @property
    def closed(self) -> bool:
        """Whether the stream has ended for good."""
        return self._fd < 0

    async def read(self, limit: int, position: int | None = None) -> bytes | PipedMessage:
        """At least one byte and at most `limit` as soon as there are any; empty at the end.

        `position`: how many bytes the host has got so far; None from a host that doesn't say, and that has got all.
        """
        async with self._turn:
            missed = self._missed(position)
            if missed:
                return missed[:limit]
            self._forget()
            self._last = await self._next(min(limit, MAX_READ))
            self._given += len(self._last)
            return self._shown()

    def _missed(self, position: int | None) -> bytes:
        """What was handed out and did not arrive."""
        missing = 0 if position is None else self._given - position
        if not 0 <= missing <= len(self._last):
            raise InvalidArgumentError(f"position {position} of an output that stands at {self._given}")
        if missing and not isinstance(self._last, bytes):
            self._last = self._last.take()
        return self._last[len(self._last) - missing :] if isinstance(self._last, bytes) else b""

    def _shown(self) -> bytes | PipedMessage:
        """The last answer, to be sent; it is kept as well."""
        if not isinstance(self._last, bytes):
            try:
                return self._last.message()
            except OSError:
                # No more descriptors, or no memory for a pipe.
                self._last = self._last.take()
        return self._last

    def _forget(self) -> None:
        if not isinstance(self._last, bytes):
            self._last.close()
        self._last = b""

    async def _next(self, limit: int) -> bytes | KeptOutput:
        while self._fd >= 0:
            data = self._burst(limit) or self._take(limit)
            if data is not None:
                return data
            if not await self._readable():
                break
        return (self._take(limit) or b"") if self._fd >= 0 else b""

    def _burst(self, limit: int) -> KeptOutput | None:
        """What a writer in the middle of much output has written, left where it is; None if there is not that much."""
        amount = available(self._fd)
        if amount < BURST or limit < BURST:
            return None
        for _ in range(BURST_TURNS):
            os.sched_yield()
            before, amount = amount, available(self._fd)
            if amount in (before, limit):
                break
        return kept.keep(self._fd, min(amount, limit))

    def writer_exited(self) -> None:
        """The process has exited: from now on a quiet pipe counts as ended."""
        self._writer_exited = True
        if self._waiter is not None:
            self._start_quiet_timer(self._waiter)

    def close(self) -> None:
        """Close for good; who waits in `read` gets the end. Idempotent."""
        self._forget()
        if self._fd < 0:
            return
        self._settle(False)
        os.close(self._fd)
        self._fd = -1

    def _take(self, limit: int) -> bytes | None:
        """What is there now; None if nothing is yet, empty (and closed) at the end."""
        try:
            data = os.read(self._fd, limit)
        except BlockingIOError:
            return None
        except OSError as error:
            # A terminal reports the last hang-up this way.
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self.close()
        return data

    async def _readable(self) -> bool:
        """Wait until there may be data; False if the stream counts as ended."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter
        loop.add_reader(self._fd, self._settle, True)
        if self._writer_exited:
            self._start_quiet_timer(waiter)
        try:
            return await waiter
        finally:
            self._settle(False)

    def _start_quiet_timer(self, waiter: asyncio.Future[bool]) -> None:
        asyncio.get_running_loop().call_later(self._quiet_seconds, _resolve, waiter, False)

    def _settle(self, readable: bool) -> None:
        """Stop waiting."""
        if self._waiter is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            _resolve(self._waiter, readable)
            self._waiter = None


class InputStream:
    """The agent's end of standard input; owns `fd`, which must be non-blocking.

    A terminal has no end of input of its own: `keep_open` makes `end` a no-op, as containerd's shims do.
    """

    def __init__(self, fd: int, keep_open: bool = False) -> None:
        self._fd = fd
        self._keep_open = keep_open
        #: Bytes taken so far.
        self._taken = 0
        self._turn = asyncio.Lock()
        self._waiter: asyncio.Future[bool] | None = None

    async def write(self, data: bytes, position: int | None = None) -> int:
        """Write all of `data`, waiting while the process does not read; returns its length.

        `position`: how many bytes the host sent before these; what was taken of `data` already is not taken again.
        Raises `FailedPreconditionError` when the stream is closed, also while waiting.
        """
        async with self._turn:
            rest = memoryview(data)[self._known(len(data), position) :]
            while rest:
                written = self._put(rest)
                if written is None:
                    await self._writable()
                else:
                    self._taken += written
                    rest = rest[written:]
        return len(data)

    def _known(self, length: int, position: int | None) -> int:
        """How many of `length` bytes at `position` were taken by a write that was not answered."""
        known = 0 if position is None else self._taken - position
        if not 0 <= known <= length:
            raise InvalidArgumentError(f"position {position} of an input that stands at {self._taken}")
        return known

    def end(self) -> None:
        """The host has no more input."""
        if not self._keep_open:
            self.close()

    def close(self) -> None:
        """Close for good; idempotent."""
        if self._fd < 0:
            return
        self._settle()
        os.close(self._fd)
        self._fd = -1

    def _put(self, data: memoryview) -> int | None:
        """Write what fits now; None if nothing does."""
        if self._fd < 0:
            raise FailedPreconditionError("standard input is closed")
        try:
            return os.write(self._fd, data[:MAX_READ])
        except BlockingIOError:
            return None
        except OSError as error:
            self.close()
            raise FailedPreconditionError(f"standard input is closed: {error.strerror}") from error

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter
        loop.add_writer(self._fd, self._settle)
        try:
            await waiter
        finally:
            self._settle()

    def _settle(self) -> None:
        if self._waiter is not None:
            asyncio.get_running_loop().remove_writer(self._fd)
            _resolve(self._waiter, True)
            self._waiter = None


def available(fd: int) -> int:
    """How many bytes can be read now."""
    return int.from_bytes(fcntl.ioctl(fd, _FIONREAD, bytes(4)), sys.byteorder)


def _resolve(waiter: asyncio.Future[bool], value: bool) -> None:
    if not waiter.done():
        waiter.set_result(value)
