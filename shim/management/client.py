"""Asks a pod's management socket; each call has one deadline for all of it, and a bound for the answer."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Final

from shim.management.http import HttpError, quote, read_response

#: Longest answer, in bytes: the guest's metrics are at most 4 MiB.
ANSWER_MAX: Final = 8 << 20
#: Seconds for a call.
TIMEOUT: Final = 10.0


class ManagementError(Exception):
    """The pod could not be asked, or refused; one line. `status` is what it answered, 0 if it did not."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


async def ask(
    path: Path,
    method: str,
    target: str,
    *,
    query: dict[str, str] | None = None,
    body: bytes = b"",
    timeout: float = TIMEOUT,
) -> bytes:
    """The body of the answer to one request on the socket at `path`; raises `ManagementError`."""
    words = "&".join(
        f"{quote(name).replace('/', '%2F')}={quote(value).replace('/', '%2F')}" for name, value in (query or {}).items()
    )
    line = f"{method} {quote(target)}{'?' if words else ''}{words} HTTP/1.1\r\n"
    head = f"{line}Host: shim\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(timeout):
            status, answer = await _exchange(path, head.encode("ascii") + body)
    except TimeoutError as error:
        raise ManagementError(f"{path}: no answer within {timeout:g} s") from error
    except OSError as error:
        raise ManagementError(f"{path}: {error.strerror or error}") from error
    except HttpError as error:
        raise ManagementError(f"{path}: {error}") from error
    if status != 200:
        raise ManagementError(_one_line(answer) or f"{path}: status {status}", status)
    return answer


async def _exchange(path: Path, request: bytes) -> tuple[int, bytes]:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as connection:
        await loop.sock_connect(connection, str(path))
        try:
            await loop.sock_sendall(connection, request)
        except (BrokenPipeError, ConnectionResetError):
            # Refused before all was sent: the answer says why.
            pass

        async def receive(size: int) -> bytes:
            return await loop.sock_recv(connection, size)

        return await read_response(receive, ANSWER_MAX)


def _one_line(answer: bytes) -> str:
    text = " ".join(answer[:2000].decode(errors="replace").split())
    return "".join(char if char.isprintable() else "?" for char in text)
