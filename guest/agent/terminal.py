"""Terminals: crun makes one inside the container and hands its master end over on a UNIX socket (SCM_RIGHTS).

That is the OCI runtimes' console socket, see docs/terminals.md of runc; crun connects and sends one descriptor.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct

from guest.agent.errors import InternalError, failed

_TIOCSWINSZ = 0x5414
RECEIVE_TIMEOUT = 5.0


class ConsoleSocket:
    """A listening socket in `directory`, for one terminal; `with ConsoleSocket(directory) as console`."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.path = f"{directory}/{os.urandom(8).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    def __enter__(self) -> ConsoleSocket:
        try:
            self._socket.bind(self.path)
            self._socket.listen(1)
        except OSError as error:
            self._socket.close()
            raise failed(f"listen on {self.path}", error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        os.unlink(self.path)

    async def receive(self) -> int:
        """The terminal's master end, non-blocking and close-on-exec; `InternalError` if none comes."""
        try:
            async with asyncio.timeout(RECEIVE_TIMEOUT):
                loop = asyncio.get_running_loop()
                connection, _ = await loop.sock_accept(self._socket)
                with connection:
                    return await _received(connection)
        except TimeoutError as error:
            raise InternalError("crun handed over no terminal") from error


async def _received(connection: socket.socket) -> int:
    """The first descriptor that comes on `connection`; further ones are closed."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _resolve, readable)
    try:
        await readable
    finally:
        loop.remove_reader(connection)
    space = socket.CMSG_SPACE(4 * struct.calcsize("i"))
    _, ancillary, _, _ = connection.recvmsg(4096, space, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    for extra in fds[1:]:
        os.close(extra)
    if not fds:
        raise InternalError("crun handed over no terminal")
    os.set_blocking(fds[0], False)
    return fds[0]


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def resize(fd: int, rows: int, columns: int) -> None:
    """Set the size of the terminal `fd` in characters, which signals the process in front (ioctl_tty(2))."""
    import fcntl

    try:
        fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("4H", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0))
    except OSError as error:
        raise failed("resize the terminal", error) from error
