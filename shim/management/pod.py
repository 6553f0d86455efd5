"""A pod with its management socket: there as long as the pod is, and gone with its run directory."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio

from sandbox.interface import OpenStdio, Publish, SandboxIdentity
from sandbox.pod_state import PodState
from sandbox.sandbox import Sandbox
from shim.management import server
from shim.management.http import Request, Response
from shim.management.paths import socket_in

_log = logging.getLogger(__name__)


@asynccontextmanager
async def managed_sandbox(
    identity: SandboxIdentity, *, open_stdio: OpenStdio, publish: Publish
) -> AsyncIterator[Sandbox]:
    """The pod of a daemon, served on its management socket too."""
    async with Sandbox(identity, open_stdio=open_stdio, publish=publish) as sandbox, management(sandbox.pod):
        yield sandbox


@asynccontextmanager
async def management(pod: PodState) -> AsyncIterator[None]:
    """Serve the management socket of `pod` while the block runs. A pod whose socket can't be made goes without."""
    try:
        listener = _listen(pod)
    except OSError as error:
        _log.warning("no management socket: %s", error)
        yield
        return
    with listener:
        async with anyio.create_task_group() as group:
            group.start_soon(_serve, pod, listener)
            try:
                yield
            finally:
                group.cancel_scope.cancel()


def _listen(pod: PodState) -> socket.socket:
    """The socket, of root alone: its directory lets nobody else in either."""
    path = socket_in(pod.directory.path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        os.chmod(path, 0o600)
        listener.listen(server.CONNECTIONS_MAX)
    except BaseException:
        listener.close()
        raise
    return listener


async def _serve(pod: PodState, listener: socket.socket) -> None:
    try:
        await server.serve(listener, partial(_handle, pod), server.same_user)
    except Exception:  # noqa: BLE001 - whatever ails the management socket is not the pod's end
        _log.exception("management socket")


async def _handle(pod: PodState, request: Request) -> Response:
    # With the first request: see there.
    from shim.management import handlers

    return await handlers.handle(pod, request)
