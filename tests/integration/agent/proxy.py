"""A proxy between a client and QEMU's socket of the agent's port, that drops and stalls what goes through it.

Connections are cut where they are, in the middle of frames too, both ways; a stalled one carries nothing until it is
let go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

_PIECE = 1 << 16


class Proxy:
    """Made by `proxied`."""

    def __init__(self, behind: Path) -> None:
        self._behind = behind
        self._open: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        #: How many connections came.
        self.connections = 0

    def drop(self) -> None:
        """Cut every connection, now."""
        for task in self._open:
            task.cancel()

    def stall(self) -> None:
        """Carry nothing more until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        """Go on."""
        self._flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        onward = None
        try:
            behind, onward = await self.reach(reader, writer)
            async with asyncio.TaskGroup() as group:
                # The end of either direction is the end of both.
                group.create_task(self._pump(reader, onward))
                group.create_task(self._pump(behind, writer))
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            pass
        finally:
            self._open.discard(task)
            for end in (writer, onward):
                if end is not None:
                    end.transport.abort()

    async def reach(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The way on for a client that has just come."""
        return await asyncio.open_unix_connection(self._behind)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE):
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError("one side has hung up")


@contextlib.asynccontextmanager
async def proxied(front: Path, behind: Path) -> AsyncIterator[Proxy]:
    """A proxy that listens at `front` for what is to go to `behind`."""
    proxy = Proxy(behind)
    server = await asyncio.start_unix_server(proxy.serve, front)
    try:
        async with server:
            yield proxy
            proxy.drop()
    finally:
        server.close()
