"""A back end of hybrid vsock, as Firecracker and Cloud Hypervisor are: a UNIX socket where a client names the port.

This machine's VMM has none of its own, so behind the handshake is the agent's virtio-serial port.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent_client.address import Address
from agent_client.dial import dial
from tests.integration.agent.proxy import Proxy

#: The number of the client's own port, which such a back end makes up.
LOCAL_PORT = 1073741824


class HybridBackEnd(Proxy):
    """Carries connections to one port of the guest; hangs up on those to another, as for one where nobody listens."""

    def __init__(self, behind: Address, port: int, patience: float) -> None:
        super().__init__(Path())
        self._guest = behind
        self._greeting = f"CONNECT {port}\n".encode()
        self._patience = patience

    async def reach(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Take the client's greeting, and answer it once there is a way into the guest."""
        if await reader.readline() != self._greeting:
            raise ConnectionRefusedError("nobody listens there")
        sock = await dial(self._guest, self._patience)
        onward = await asyncio.open_unix_connection(sock=sock)
        writer.write(f"OK {LOCAL_PORT}\n".encode())
        return onward


@contextlib.asynccontextmanager
async def hybrid(front: Path, behind: Address, port: int, patience: float) -> AsyncIterator[HybridBackEnd]:
    """A back end that listens at `front` and leads `port` to the agent at `behind`."""
    back_end = HybridBackEnd(behind, port, patience)
    server = await asyncio.start_unix_server(back_end.serve, front)
    try:
        async with server:
            yield back_end
            back_end.drop()
    finally:
        server.close()
