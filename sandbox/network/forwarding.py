"""Port-forward: what connects to the loopback of the pod's network namespace is connected to the guest's.

containerd enters the namespace and dials `localhost` there. A connection is taken first and then made in the guest, so
one to a port where nobody listens is reset at once in place of being refused.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Awaitable, Callable

import anyio

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from sandbox.network.connection import Connection, dialled
from sandbox.network.steering import Listener, listen

#: Connections at the same time; further ones wait to be taken.
MAX_CONNECTIONS = 64
#: Most bytes under way, for each direction of a connection.
CHUNK = 64 * 1024
#: Seconds that one direction may be idle after the other has ended: whoever is gone for good looks the same.
HALF_CLOSED = 300.0
#: Seconds to wait when there are no more descriptors.
_PAUSE = 1.0
_RESET = struct.pack("ii", 1, 0)

_log = logging.getLogger(__name__)


async def forward(namespace: int, agent: AgentClient) -> None:
    """Serve the loopback of the namespace behind a descriptor, until cancelled; returns where the host can't."""
    try:
        listener = listen(namespace)
    except OSError as error:
        _log.warning("port-forward will not reach into the pod: %s", error)
        return
    try:
        await _serve(listener, agent)
    finally:
        listener.close()


async def _serve(listener: Listener, agent: AgentClient) -> None:
    places = anyio.Semaphore(MAX_CONNECTIONS)

    async def one(client: socket.socket) -> None:
        try:
            await connect(client, agent)
        finally:
            places.release()

    async with anyio.create_task_group() as group:
        while True:
            await places.acquire()
            group.start_soon(one, await _accept(listener.socket))


async def _accept(listener: socket.socket) -> socket.socket:
    while True:
        await anyio.wait_readable(listener)
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        except OSError as error:
            _log.warning("a port-forward can't be accepted: %s", error)
            await anyio.sleep(_PAUSE)
            continue
        client.setblocking(False)
        return client


async def connect(client: socket.socket, agent: AgentClient) -> None:
    """Connect an accepted socket with the port of the guest that it was meant for, until both sides have ended.

    Whatever fails resets it; it is closed at the end.
    """
    with client:
        address, port = client.getsockname()[:2]
        is_whole = False
        try:
            async with dialled(agent, port, prefers_ipv6=address == "::1") as guest:
                is_whole = await Relay(client, guest).run()
        except AgentError as error:
            _log.info("port-forward: %s", error)
        finally:
            if not is_whole:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class Relay:
    """Moves data between a socket of the host and a connection in the guest, never more than the reader takes."""

    def __init__(self, client: socket.socket, guest: Connection) -> None:
        self._client = client
        self._guest = guest
        self._open = 2
        self._moved = 0
        self._ended = anyio.Event()

    async def run(self) -> bool:
        """Until both directions have ended; False if the connection broke, or half of it was idle for too long."""
        async with anyio.create_task_group() as group:
            for direction in (self._from_guest, self._to_guest):
                group.start_soon(self._move, direction, group.cancel_scope)
            await self._ended.wait()
            while True:
                moved = self._moved
                await anyio.sleep(HALF_CLOSED)
                if moved == self._moved:
                    group.cancel_scope.cancel()
        return self._open == 0

    async def _move(self, direction: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        try:
            await direction()
        except (AgentError, OSError) as error:
            _log.debug("port-forward ended: %s", error)
            scope.cancel()
            return
        self._open -= 1
        self._ended.set()
        if not self._open:
            scope.cancel()

    async def _from_guest(self) -> None:
        while data := await self._guest.receive(CHUNK):
            rest = memoryview(data)
            while rest:
                await anyio.wait_writable(self._client)
                rest = rest[self._client.send(rest) :]
            self._moved += len(data)
        self._client.shutdown(socket.SHUT_WR)

    async def _to_guest(self) -> None:
        data = b"-"
        while data:
            await anyio.wait_readable(self._client)
            data = self._client.recv(CHUNK)
            await self._guest.send(data)
            self._moved += len(data)
