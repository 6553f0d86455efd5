"""Serves HTTP requests on a listening socket, each connection one, a few at a time.

It works on plain sockets: asyncio's streams would cost each connection buffers and tasks that nobody owns.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from shim.management.http import HttpError, Receive, Request, Response, read_request

#: Connections at the same time; further ones wait in the socket's queue.
CONNECTIONS_MAX: Final = 8
#: Seconds for a request to come, and for its response to be taken.
TRANSFER_TIMEOUT: Final = 10.0
#: Seconds until accepting is tried again when it failed, as it does without free descriptors.
_RETRY = 0.5
#: struct ucred of unix(7): pid, uid, gid.
_UCRED = struct.Struct("=iII")

#: Answers a request; raises `HttpError`.
Handle = Callable[[Request], Awaitable[Response]]
#: Whether a peer may ask at all.
Admit = Callable[[socket.socket], bool]

_log = logging.getLogger(__name__)


async def serve(listener: socket.socket, handle: Handle, admit: Admit = lambda _: True) -> None:
    """Serve on `listener`, which is the caller's to close, until cancelled."""
    listener.setblocking(False)
    places = anyio.Semaphore(CONNECTIONS_MAX)
    async with anyio.create_task_group() as group:
        while True:
            await places.acquire()
            connection = await _accept(listener)
            group.start_soon(_serve_one, connection, handle, admit, places)


def same_user(connection: socket.socket) -> bool:
    """Whether the peer of a UNIX socket is this process' user, or root."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return _UCRED.unpack(data)[1] in (0, os.geteuid())


async def _accept(listener: socket.socket) -> socket.socket:
    while True:
        try:
            return (await asyncio.get_running_loop().sock_accept(listener))[0]
        except OSError as error:
            _log.debug("accept: %s", error)
            await anyio.sleep(_RETRY)


async def _serve_one(connection: socket.socket, handle: Handle, admit: Admit, places: anyio.Semaphore) -> None:
    try:
        with connection:
            connection.setblocking(False)
            if admit(connection):
                await _answer(connection, handle)
    except OSError as error:
        _log.debug("management connection: %s", error)
    finally:
        places.release()


async def _answer(connection: socket.socket, handle: Handle) -> None:
    try:
        with anyio.fail_after(TRANSFER_TIMEOUT):
            request = await read_request(receiver(connection))
        if request is None:
            return
        response = await handle(request)
    except TimeoutError:
        response = Response.error(408, f"no whole request within {TRANSFER_TIMEOUT:g} s")
    except HttpError as error:
        response = Response.error(error.status, str(error))
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - one request's failure is its own
        _log.exception("management request")
        response = Response.error(500, "the request failed: see the log")
    with anyio.move_on_after(TRANSFER_TIMEOUT):
        await asyncio.get_running_loop().sock_sendall(connection, response.encode())
        connection.shutdown(socket.SHUT_WR)


def receiver(connection: socket.socket) -> Receive:
    """How to read from a connection."""

    async def receive(size: int) -> bytes:
        return await asyncio.get_running_loop().sock_recv(connection, size)

    return receive
