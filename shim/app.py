"""The daemon's life with a pod: serve it until it is no longer wanted, then take it down in order.

The end, in this order: the socket's name goes, so that no new `start` finds a daemon that is about to go; the pod is
torn down, which ends all processes and releases every `Wait`; the last events are sent; `Shutdown` is answered and
the server closes. Everything runs in one task group, and each step of the end has a deadline.
"""

from __future__ import annotations

import logging
import signal
import socket
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import anyio
from anyio.abc import TaskStatus

from protos.codec import MessageCodec
from sandbox.interface import OpenStdio, Pod, Publish, SandboxIdentity
from shim import forward, kernel, sockets, stackdump
from shim.events import Publisher
from shim.lifetime import Lifetime
from shim.reaper import reap_orphans
from shim.sandbox_service import SandboxService
from shim.settings import Settings
from shim.stdio.streams import StdioOpener
from shim.task import TaskService
from ttrpc.server import Server

#: Seconds for taking the pod down; what is left then dies with the daemon, or in `delete`.
TEARDOWN_TIMEOUT = 10.0

#: Seconds for sending the last events.
FLUSH_TIMEOUT = 5.0

#: Seconds for the whole end, whatever hangs.
END_TIMEOUT = 30.0

#: Seconds for the handlers that are still running when all is down.
CLOSE_TIMEOUT = 1.0

_log = logging.getLogger(__name__)


class MakePod(Protocol):
    """Makes the pod of a daemon: `sandbox.sandbox.Sandbox`, or a fake of it."""

    def __call__(
        self, identity: SandboxIdentity, *, open_stdio: OpenStdio, publish: Publish
    ) -> AbstractAsyncContextManager[Pod]:
        """The pod, to be entered before it is used."""


async def serve(settings: Settings, listener: socket.socket, make_pod: MakePod) -> None:
    """Serve one pod on `listener` until its end."""
    identity = settings.identity
    socket_inode = sockets.inode(str(identity.socket_path))
    way = forward.choose(settings.ttrpc_address, settings.publish_binary, identity.containerd_address)
    publisher = Publisher(identity.namespace, way)
    async with anyio.create_task_group() as group:
        group.start_soon(publisher.run)
        group.start_soon(reap_orphans)
        opener = StdioOpener(identity.namespace)
        async with make_pod(identity, open_stdio=opener, publish=publisher.publish) as pod:
            lifetime = Lifetime(lambda: pod.is_empty or pod.life.is_waiting, settings.idle_timeout)
            await group.start(_watch_signals, lifetime)
            sandbox = SandboxService(pod, lifetime, identity.sandbox_id)
            async with Server([TaskService(pod, lifetime), sandbox], MessageCodec()) as server:
                await server.listen(listener)
                _log.info("serving sandbox %s", identity.sandbox_id)
                _log.info("ending: %s", await lifetime.wait())
                kernel.end_within(END_TIMEOUT)
                sockets.remove(str(identity.socket_path), socket_inode)
                await _take_down(pod, publisher)
                lifetime.finished.set()
                await server.close(CLOSE_TIMEOUT)
        group.cancel_scope.cancel()


async def _take_down(pod: Pod, publisher: Publisher) -> None:
    """Nothing of the pod is left afterwards, as far as the deadlines allow."""
    with anyio.move_on_after(TEARDOWN_TIMEOUT) as teardown:
        try:
            await pod.shutdown()
        except Exception:  # noqa: BLE001 - the end goes on, and says what it left
            _log.exception("teardown of the pod")
    if teardown.cancelled_caught:
        _log.error("the pod was not down after %g s", TEARDOWN_TIMEOUT)
    with anyio.move_on_after(FLUSH_TIMEOUT):
        await publisher.flush()
    if publisher.pending:
        _log.warning("%d events could not be sent", publisher.pending)


async def _watch_signals(lifetime: Lifetime, *, task_status: TaskStatus[None]) -> None:
    """SIGTERM and SIGINT end the daemon in order; SIGUSR1 logs where every task and thread stands."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGUSR1:
                for stack in stackdump.render():
                    _log.info("%s", stack)
            else:
                lifetime.end(number.name)
