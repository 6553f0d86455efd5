"""Connections to what listens on the guest's loopback: the containers', for they share the guest's network namespace.

A connection has the streams of a process: data is read and written as the host asks, nothing is buffered here, and a
call whose answer was lost may be made again (see `streams`). The host gives the numbers, and hangs up in the end.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from guest.agent.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    failed,
)
from guest.agent.streams import InputStream, OutputStream

if TYPE_CHECKING:
    from ttrpc.piped import PipedMessage

#: At the same time.
MAX_CONNECTIONS = 64
#: Seconds for a connection of the loopback: a listener whose queue is full answers nothing.
CONNECT_TIMEOUT = 10.0
_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


class Connection:
    """A TCP connection; owns `sock`, which must be non-blocking and connected."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._output = OutputStream(os.dup(sock.fileno()))
        self._input = InputStream(os.dup(sock.fileno()))

    async def receive(self, limit: int, position: int) -> bytes | PipedMessage:
        """What the other end sends, as of `OutputStream.read`; raises `InternalError` if it resets the connection."""
        try:
            return await self._output.read(limit, position)
        except OSError as error:
            raise failed("receive", error) from error

    async def send(self, data: bytes, position: int) -> int:
        """Send all of `data`, as of `InputStream.write`; none at all is the end of it."""
        if data:
            return await self._input.write(data, position)
        self._input.close()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            # The other end is gone, or it is the second time: ended is ended.
            return 0
        return 0

    def close(self) -> None:
        """Hang up; whoever waits for the connection is told of its end. Idempotent."""
        self._output.close()
        self._input.close()
        self._sock.close()


class Connections:
    """All of them, by number."""

    def __init__(self) -> None:
        self._connections: dict[int, Connection] = {}

    def get(self, number: int) -> Connection:
        """One that was dialled; raises `NotFoundError`."""
        try:
            return self._connections[number]
        except KeyError:
            raise NotFoundError(f"there is no connection {number}") from None

    async def dial(self, number: int, port: int, prefers_ipv6: bool) -> None:
        """Connect to `port` of a loopback address and number the connection; nothing happens if it is there.

        Raises `FailedPreconditionError` if nobody listens, `ResourceExhaustedError`, `InvalidArgumentError`.
        """
        if number in self._connections:
            return
        if not 0 < port < 1 << 16:
            raise InvalidArgumentError(f"{port} is no port")
        sock = await _connected(port, prefers_ipv6)
        if number in self._connections or len(self._connections) >= MAX_CONNECTIONS:
            sock.close()
            raise ResourceExhaustedError(f"there are {len(self._connections)} connections, or one of number {number}")
        self._connections[number] = Connection(sock)

    def hang_up(self, number: int) -> None:
        """Close one, if it is there."""
        connection = self._connections.pop(number, None)
        if connection is not None:
            connection.close()


async def _connected(port: int, prefers_ipv6: bool) -> socket.socket:
    reason = ""
    for family, address in reversed(_LOOPBACKS) if prefers_ipv6 else _LOOPBACKS:
        try:
            return await _dialled(family, address, port)
        except TimeoutError:
            reason = f"no answer in {CONNECT_TIMEOUT:g} s"
        except OSError as error:
            # The address that was asked for says more than the other.
            reason = reason or os.strerror(error.errno or 0)
    raise FailedPreconditionError(f"port {port} of the pod: {reason}")


async def _dialled(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
