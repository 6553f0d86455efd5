"""Kata's `CacheService`, and the socket beside it over which VMs are handed over."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.abc
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from hypervisor import sockets
from hypervisor.errors import HypervisorError
from protos.gen import wellknown
from protos.gen.cache import CacheServiceBase, GrpcStatus, GrpcVm, GrpcVmConfig, GrpcVmStatus
from sandbox.cache.handing import CLAIM_TIMEOUT, LINE_LIMIT, TAKEN, Ticket, is_trusted
from sandbox.cache.maker import WaitingVm
from sandbox.cache.pool import Pool

#: Seconds to wait when there are no more descriptors.
PAUSE = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """A VM that was promised; `expiry` ends with its claim."""

    vm: WaitingVm
    expiry: anyio.CancelScope


class Leases:
    """VMs between GetBaseVM and their hand-over. `listener` is bound; `group` is where hand-overs run."""

    def __init__(self, pool: Pool[WaitingVm], listener: socket.socket, group: anyio.abc.TaskGroup) -> None:
        self._pool = pool
        self._listener = listener
        self._group = group
        self._leases: dict[str, Lease] = {}

    def lease(self, vm: WaitingVm) -> Ticket:
        """Promise a VM to whoever has the ticket: unless it is claimed in time it goes back."""
        token, expiry = secrets.token_hex(16), anyio.CancelScope()
        self._leases[token] = Lease(vm, expiry)
        self._group.start_soon(self._expire, token, expiry)
        return Ticket(str(self._listener.getsockname()), token, str(vm.journal))

    async def serve(self) -> None:
        """Hand over what is claimed, until cancelled; what is promised and not claimed is ended then."""
        try:
            while True:
                self._group.start_soon(self._hand_over, await self._accept())
        finally:
            with anyio.CancelScope(shield=True):
                for lease in self._leases.values():
                    await lease.vm.end()
            self._leases.clear()

    async def _accept(self) -> socket.socket:
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
                return connection
            except OSError as error:
                _log.warning("a claim can't be accepted: %s", error.strerror)
                await anyio.sleep(PAUSE)

    async def _expire(self, token: str, scope: anyio.CancelScope) -> None:
        with scope:
            await anyio.sleep(CLAIM_TIMEOUT)
            lease = self._leases.pop(token, None)
            if lease is None:
                # Claimed in the very moment.
                return
            _log.warning("VM %s was asked for and not claimed: it is back in the cache", lease.vm.id)
            self._pool.put_back(lease.vm)

    async def _hand_over(self, connection: socket.socket) -> None:
        with connection:
            connection.setblocking(False)
            lease = await self._claimed(connection)
            if lease is None:
                return
            try:
                parcel = await lease.vm.release()
            except HypervisorError as error:
                _log.warning("VM %s could not be handed over: %s", lease.vm.id, error)
                await lease.vm.end()
                return
            taken = False
            try:
                with anyio.move_on_after(CLAIM_TIMEOUT):
                    taken = await _give(connection, parcel.facts.encode(), parcel.descriptors)
            except OSError as error:
                _log.warning("VM %s: its receiver hung up: %s", lease.vm.id, error)
            finally:
                if not taken:
                    parcel.kill()
                parcel.close()
                lease.vm.forget()
            _log.info("VM %s %s", lease.vm.id, "is a pod's" if taken else "was not taken, and is ended")

    async def _claimed(self, connection: socket.socket) -> Lease | None:
        """Whose token it is; None for none."""
        token = b""
        with anyio.move_on_after(CLAIM_TIMEOUT):
            try:
                if is_trusted(connection):
                    token = await _line(connection)
            except OSError:
                return None
        lease = self._leases.pop(token.decode("ascii", "replace").strip(), None)
        if lease is not None:
            lease.expiry.cancel()
        return lease


class Service(CacheServiceBase):
    """The RPCs of `cache.CacheService`. `quit` ends the server."""

    def __init__(self, config: GrpcVmConfig, pool: Pool[WaitingVm], leases: Leases, quit_: Callable[[], None]) -> None:
        self._config = config
        self._pool = pool
        self._leases = leases
        self._quit = quit_

    async def config(self, message: wellknown.Empty) -> GrpcVmConfig:
        """What the VMs are."""
        return self._config

    async def get_base_vm(self, message: wellknown.Empty) -> GrpcVm:
        """A VM and the ticket for it; RESOURCE_EXHAUSTED if none waits."""
        vm = self._pool.take()
        if vm is None:
            reason = "the cache is drained" if self._pool.is_draining else "no VM is ready"
            _log.info("a pod gets no VM: %s", reason)
            raise GRPCError(Status.RESOURCE_EXHAUSTED, reason)
        ticket = self._leases.lease(vm)
        return GrpcVm(id=vm.id, hypervisor=ticket.encode(), cpu=vm.vcpus, memory=vm.memory_mib)

    async def status(self, message: wellknown.Empty) -> GrpcStatus:
        """The server's pid, and the VMs that wait."""
        return GrpcStatus(
            pid=os.getpid(),
            vmstatus=[GrpcVmStatus(pid=vm.pid, cpu=vm.vcpus, memory=vm.memory_mib) for vm in self._pool.vms],
        )

    async def quit(self, message: wellknown.Empty) -> wellknown.Empty:
        """End all VMs, and the server."""
        self._quit()
        return wellknown.Empty()


def listen(path: Path, backlog: int = 64) -> socket.socket:
    """A listening socket for our user alone, in place of a dead server's; raises `HypervisorError`."""
    sock = sockets.listen(path, backlog)
    sock.setblocking(False)
    return sock


async def _line(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while not data.endswith(b"\n") and len(data) < LINE_LIMIT:
        more = await loop.sock_recv(connection, LINE_LIMIT)
        if not more:
            break
        data += more
    return data


async def _give(connection: socket.socket, facts: bytes, fds: list[int]) -> bool:
    """Send it; whether the receiver has it. Raises `OSError`."""
    sent = socket.send_fds(connection, [facts], fds)
    await asyncio.get_running_loop().sock_sendall(connection, facts[sent:])
    return await _line(connection) == TAKEN
