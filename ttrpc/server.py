"""The ttrpc server: serves grpclib-style services on listening sockets and on single streams."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Iterable
from types import TracebackType

from ttrpc.codec import Codec
from ttrpc.peer import Peer, check_same_user, peer_of
from ttrpc.server_connection import Admit, ServerConnection
from ttrpc.server_streams import STREAMS_MAX, ServerStreams, Service, build_routes

#: Connections at the same time. containerd opens one per container of the pod, and some short ones.
CONNECTIONS_MAX = 1024
#: Seconds that `Server.close` lets handlers finish.
GRACE_SECONDS = 5.0


class Server:
    """Serves `services` while its `async with` block runs; the handlers' tasks live in that block's task group.

    Leaving the block closes the server: after an error at once, else as `close()` does. The rules of the room:
    handlers run concurrently; one that raises ends its own call and nothing else; a lost connection cancels its own.
    """

    def __init__(
        self,
        services: Iterable[Service],
        codec: Codec,
        *,
        require_same_user: bool = True,
        streams_max: int = STREAMS_MAX,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._routes = build_routes(services)
        self._codec = codec
        self._require_same_user = require_same_user
        self._streams_max = streams_max
        self._connections_max = connections_max
        self._group = asyncio.TaskGroup()
        # uvloop closes a listener that nobody refers to.
        self._listeners: list[asyncio.AbstractServer] = []
        self._connections: set[ServerConnection] = set()
        self._closing = False

    async def __aenter__(self) -> Server:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.close(GRACE_SECONDS if exc is None else 0)
        finally:
            # Only a cancellation concerns the group: any other error of the block goes on as it is, not in a group.
            cancelled = (exc_type, exc, traceback) if isinstance(exc, asyncio.CancelledError) else (None, None, None)
            await self._group.__aexit__(*cancelled)

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections on `sock`, which is bound; ownership passes to the server.

        Raises ValueError when peers must be checked and `sock` is no UNIX socket, for only those can be.
        """
        if self._require_same_user and sock.family != socket.AF_UNIX:
            raise ValueError("require_same_user needs a UNIX socket: no other tells who connects")
        loop = asyncio.get_running_loop()
        accept = functools.partial(self._connection, self._admit_accepted)
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        self._listeners.append(await create(accept, sock=sock))

    def protocol(self) -> ServerConnection:
        """Return the protocol for one stream that the caller has connected and trusts, such as a `FdTransport`."""
        return self._connection(self._admit_given)

    async def close(self, grace: float = GRACE_SECONDS, farewell: float = 0.0) -> None:
        """Stop in order: accept nothing new, let handlers finish for `grace` seconds, cancel the rest, disconnect.

        Before the last step clients have `farewell` seconds to hang up themselves, which they do when they have their
        answers: where the machine is switched off next, nothing else shows that these have left it.
        Idempotent. Not to be awaited by a handler, which would wait for itself.
        """
        self._closing = True
        for listener in self._listeners:
            listener.close()
        for connection in self._connections:
            connection.streams.draining = True
        tasks = [task for connection in self._connections for task in connection.tasks]
        connections = list(self._connections)
        try:
            if tasks and grace > 0:
                await asyncio.wait(tasks, timeout=grace)
            if farewell > 0:
                await self._hung_up(connections, farewell)
        finally:
            for connection in connections:
                connection.abandon_calls()
                connection.close()
        for connection in connections:
            await connection.wait_closed()

    async def _hung_up(self, connections: list[ServerConnection], timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                for connection in connections:
                    await connection.wait_closed()
        except TimeoutError:
            return

    def _connection(self, admit: Admit) -> ServerConnection:
        streams = ServerStreams(self._routes, self._streams_max)
        return ServerConnection(streams, self._codec, self._group.create_task, admit, self._connections.discard)

    def _admit_accepted(self, connection: ServerConnection, transport: asyncio.BaseTransport) -> Peer | None:
        """Let in a connection from a listening socket."""
        peer = peer_of(transport)
        if self._require_same_user:
            check_same_user(peer)
        self._admit_given(connection, transport)
        return peer

    def _admit_given(self, connection: ServerConnection, transport: asyncio.BaseTransport) -> Peer | None:
        """Let in a connection whose peer needs no check."""
        if self._closing:
            raise PermissionError("the server is closing")
        if len(self._connections) >= self._connections_max:
            raise PermissionError(f"{self._connections_max} connections are open")
        self._connections.add(connection)
        return peer_of(transport)
