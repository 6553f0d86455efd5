"""Waiting until a descriptor can be read or written, on any asyncio loop.

asyncio's pipe transports close a FIFO on the first sign of an absent peer (and uvloop's do not take one at all), so the
streams are moved with `os.read` and `os.write`, and only the waiting is the loop's.
"""

from __future__ import annotations

import asyncio


class Watched:
    """A descriptor with at most one waiter per direction; `close` wakes them, they then find `closed` set."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        self._waiters: set[asyncio.Future[None]] = set()

    async def readable(self) -> None:
        """Wait until a read would not block, or the descriptor is closed."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.fd, self.wake)
        try:
            await self._wait(loop)
        finally:
            if not self.closed:
                loop.remove_reader(self.fd)

    async def writable(self) -> None:
        """Wait until a write would not block, or the descriptor is closed."""
        loop = asyncio.get_running_loop()
        loop.add_writer(self.fd, self.wake)
        try:
            await self._wait(loop)
        finally:
            if not self.closed:
                loop.remove_writer(self.fd)

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        waiter = loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def wake(self) -> None:
        """Let waiters look again: something has changed that the kernel does not tell."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def detach(self) -> int:
        """Stop watching and give the descriptor back, to be closed; waiters wake up and find `closed` set."""
        if not self.closed and self._waiters:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self.fd)
            loop.remove_writer(self.fd)
        self.closed = True
        self.wake()
        return self.fd
