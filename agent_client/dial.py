"""Connect to an agent: the socket, then the handshake of its kind, all within one deadline.

QEMU holds the client's bytes until the guest opens a virtio-serial port, so there the client connects once and waits.
A vsock (hybrid or not) refuses until the guest listens, so there the client asks again, with growing pauses.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from agent_client.address import Address, HybridVsock, Serial, Unix, Vsock
from agent_client.handshake import Handshake, HandshakeError, HybridHandshake, SerialHandshake

#: Seconds between two attempts to reach a guest that does not listen yet: the first pause, and the longest.
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25
#: The kernel gives a vsock connection 2 s by itself; a guest that boots answers a later attempt sooner than that.
_ATTEMPT_TIMEOUT = 1.0
_READ = 64 * 1024


class DialError(Exception):
    """The agent could not be reached; one line that names its address. `timed_out` tells a deadline from a refusal."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


async def dial(address: Address, timeout: float) -> socket.socket:
    """A connected, non-blocking socket on which ttrpc can begin; the caller owns it.

    Raises `DialError`. When the deadline passes, its text says what the last attempt came to.
    """
    dialler = _Dialler(address)
    try:
        async with asyncio.timeout(timeout):
            return await dialler.connect()
    except TimeoutError as error:
        raise DialError(f"{address}: no answer in {timeout:g} s: {dialler.progress}", timed_out=True) from error


class _Dialler:
    """One dialling; `progress` says in words how far it got."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.progress = "not connected"

    async def connect(self) -> socket.socket:
        if isinstance(self.address, Serial | Unix):
            try:
                return await self._attempt()
            except (OSError, HandshakeError) as error:
                raise DialError(f"{self.address}: {_reason(error)}") from error
        return await self._until_it_listens()

    async def _until_it_listens(self) -> socket.socket:
        pause = _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(_ATTEMPT_TIMEOUT):
                    return await self._attempt()
            except HandshakeError as error:
                raise DialError(f"{self.address}: {error}") from error
            except OSError as error:
                # That an attempt ran out of time says nothing: `progress` has what it was waiting for.
                if not isinstance(error, TimeoutError):
                    self.progress = _reason(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _attempt(self) -> socket.socket:
        sock, where = endpoint(self.address)
        try:
            sock.setblocking(False)
            await _connect(sock, where)
            handshake = _handshake(self.address)
            if handshake is not None:
                await self._shake_hands(sock, handshake)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _shake_hands(self, sock: socket.socket, handshake: Handshake) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, handshake.greeting)
        done = False
        while not done:
            self.progress = handshake.waiting
            data = await loop.sock_recv(sock, _READ)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the connection was closed during the handshake")
            done = handshake.feed(data)


def endpoint(address: Address) -> tuple[socket.socket, str | tuple[int, int]]:
    """A fresh socket for `address`, and what to connect it to."""
    if isinstance(address, Vsock):
        return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM), (address.cid, address.port)
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), address.path


def _handshake(address: Address) -> Handshake | None:
    if isinstance(address, Serial):
        return SerialHandshake()
    return HybridHandshake(address.port) if isinstance(address, HybridVsock) else None


async def _connect(sock: socket.socket, where: str | tuple[int, int]) -> None:
    """Connect without blocking; by hand, for uvloop's `sock_connect` does not take a vsock."""
    code = sock.connect_ex(where)
    if code == errno.EINPROGRESS:
        await _writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        # A UNIX socket says EAGAIN when its backlog is full, and will not become writable for it.
        raise OSError(code, os.strerror(code))


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(sock.fileno(), _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock.fileno())


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
