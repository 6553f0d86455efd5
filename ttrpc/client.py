"""The ttrpc client: a channel with grpclib's interface, so that generated stubs work on it unchanged."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TypeVar

from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError

from ttrpc.client_call import Call
from ttrpc.client_connection import ClientConnection
from ttrpc.codec import Codec
from ttrpc.deadline import DeadlineLike, earliest
from ttrpc.fdtransport import FdTransport
from ttrpc.frame import MESSAGE_MAX
from ttrpc.metadata import MetadataLike, to_pairs

SendT = TypeVar("SendT")
RecvT = TypeVar("RecvT")


class Channel:
    """A connection to a server, over which any number of calls go at the same time.

    It is connected when made and stays so until it is closed or lost; then it is of no use. A lost connection fails
    every call with GRPCError(UNAVAILABLE, "ttrpc: closed: <cause>").
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @classmethod
    async def connect_unix(cls, path: str | os.PathLike[str], codec: Codec, *, timeout: float) -> Channel:
        """Connect to a listening UNIX socket within `timeout` seconds; raise OSError that names it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_unix_connection(lambda: ClientConnection(codec), os.fspath(path))
        except TimeoutError as exc:
            raise TimeoutError(f"connect to {os.fspath(path)}: no answer in {timeout:g} s") from exc
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, os.fspath(path)) from exc
        return cls(connection)

    @classmethod
    async def over_socket(cls, sock: socket.socket, codec: Codec) -> Channel:
        """Return a channel over a connected stream socket of any family; ownership passes to it."""
        if sock.family != socket.AF_UNIX:
            # uvloop's socket transports set TCP options, which a vsock refuses.
            return await cls.over_fd(sock.detach(), codec)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(lambda: ClientConnection(codec), sock=sock)
        return cls(connection)

    @classmethod
    async def over_fd(cls, fd: int, codec: Codec) -> Channel:
        """Return a channel over a descriptor that can be polled, read and written; ownership passes to it."""
        connection = ClientConnection(codec)
        FdTransport(asyncio.get_running_loop(), fd, connection)
        await connection.wait_made()
        return cls(connection)

    @property
    def closed(self) -> bool:
        """Whether the channel is closed, closing or lost."""
        return self._connection.is_closed

    def request(
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[SendT],
        reply_type: type[RecvT],
        *,
        timeout: float | None = None,
        deadline: DeadlineLike | None = None,
        metadata: MetadataLike | None = None,
        response_max: int = MESSAGE_MAX,
    ) -> Call[SendT, RecvT]:
        """Return a call of the route `name`, as grpclib's channel does; it begins with its first message.

        `timeout` is in seconds; of it and `deadline` the earlier counts, from now. `request_type` is the stub's
        knowledge: the codec takes the message as it is. A response of more than `response_max` bytes fails the call
        before it costs the time of decoding it: for servers that are not trusted.
        """
        limit = earliest(timeout, deadline)
        return Call(self._connection, name, cardinality, reply_type, limit, to_pairs(metadata), response_max)

    def on_close(self, callback: Callable[[GRPCError], None]) -> None:
        """Call `callback` with the error of the calls once the connection is closed or lost; soon, if it has been."""
        self._connection.on_close(callback)

    def close(self) -> None:
        """Close the connection after what is buffered has gone out, within a second. Idempotent."""
        self._connection.close()

    async def wait_closed(self) -> None:
        """Return once the connection is closed or lost."""
        await self._connection.wait_closed()
