"""One TCP connection in the guest, over however many connections to its agent: see `agent_client.streams`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.streams import repeated

#: Seconds that a guest may take to let go of a connection.
HANG_UP_TIMEOUT = 2.0


class Connection:
    """Made by `dialled`. One reader and one writer; all methods raise `AgentError`."""

    def __init__(self, client: AgentClient, number: int) -> None:
        self._client = client
        self._number = number
        self._received = self._sent = 0

    async def receive(self, length: int) -> bytes:
        """Wait for data, at most `length` bytes of it; empty at its end."""
        ports = self._client.ports
        data = await repeated(self._client, lambda: ports.receive(self._number, length, self._received))
        self._received += len(data)
        return data

    async def send(self, data: bytes) -> None:
        """Send all of `data`, however long it is not read; none at all is the end."""
        ports = self._client.ports
        await repeated(self._client, lambda: ports.send(self._number, data, self._sent))
        self._sent += len(data)


@asynccontextmanager
async def dialled(client: AgentClient, port: int, *, prefers_ipv6: bool = False) -> AsyncIterator[Connection]:
    """A connection to `port` of the guest's loopback, ended with the body; raises `AgentError` if nobody listens."""
    number = client.ports.number()
    try:
        await repeated(client, lambda: client.ports.dial(number, port, prefers_ipv6=prefers_ipv6))
        yield Connection(client, number)
    finally:
        with anyio.CancelScope(shield=True):
            await _hang_up(client, number)


async def _hang_up(client: AgentClient, number: int) -> None:
    try:
        await client.ports.hang_up(number, timeout=HANG_UP_TIMEOUT)
    except AgentError:
        # A guest that does not answer keeps one of the connections that it is allowed.
        return
