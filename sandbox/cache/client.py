"""A pod's VM out of the cache: asked for, claimed, and journalled, all before its pod's start is far on.

Whatever goes wrong is one line in the log, and no VM: the pod's then boots, or is a clone of a template.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path

import anyio

from hypervisor.errors import HypervisorError
from hypervisor.handover.parcel import DESCRIPTORS, FACTS_LIMIT, Facts, Parcel
from protos.gen import wellknown
from protos.gen.cache import GrpcVm, GrpcVmConfig
from sandbox.cache.calls import CallError, Connection
from sandbox.cache.handing import TAKEN, Ticket, is_trusted
from sandbox.cache.likeness import base_spec, difference, unfit, vm_json
from sandbox.cache.plan import CachePlan
from sandbox.cache.received import CachedVm
from sandbox.plan import SandboxPlan
from sandbox.resources.joining import join
from sandbox.rundir import RunDirectory, start_time

#: Seconds for all of it: a cache that takes longer is no gain.
TIMEOUT = 3.0
SERVICE = "/cache.CacheService"
_READ = 64 << 10

_log = logging.getLogger(__name__)


class CacheError(Exception):
    """There is no VM for this pod; one line that says why."""


async def take(plan: SandboxPlan, cache: CachePlan, directory: RunDirectory) -> CachedVm | None:
    """A waiting VM, which is this pod's from now on; None, and a line in the log, if there is none."""
    try:
        with anyio.fail_after(TIMEOUT):
            return await _take(plan, cache, directory)
    except TimeoutError:
        reason = f"it did not answer within {TIMEOUT:g} s"
    except OSError as error:
        reason = error.strerror or str(error)
    except (CacheError, CallError, HypervisorError, ValueError) as error:
        reason = str(error)
    _log.info("the VM does not come from the cache at %s: %s", cache.endpoint, reason)
    return None


async def _take(plan: SandboxPlan, cache: CachePlan, directory: RunDirectory) -> CachedVm:
    if reason := unfit(plan.vm):
        raise CacheError(reason)
    base = base_spec(plan.vm, cache)
    ticket = await _ask(cache, vm_json(base))
    parcel = await _claim(ticket, directory)
    try:
        join((parcel.facts.pid, parcel.facts.guardian))
        return CachedVm(plan, base, parcel)
    except BaseException:
        parcel.kill()
        parcel.close()
        raise


async def _ask(cache: CachePlan, wanted: str) -> Ticket:
    connection = await Connection.open(cache.endpoint)
    try:
        theirs = await connection.call(f"{SERVICE}/Config", wellknown.Empty(), GrpcVmConfig)
        for text, ours in ((theirs.data, wanted), (theirs.agent_config, cache.agent)):
            if other := difference(text.decode("utf-8", "replace"), ours):
                raise CacheError(f"its VMs are made otherwise: {other}")
        vm = await connection.call(f"{SERVICE}/GetBaseVM", wellknown.Empty(), GrpcVm)
        return Ticket.decode(vm.hypervisor)
    finally:
        connection.close()


async def _claim(ticket: Ticket, directory: RunDirectory) -> Parcel:
    """The VM is in the journal, and ours, when this returns."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sock.connect(ticket.socket)
        if not is_trusted(sock):
            raise CacheError("it is not run by this user")
        await loop.sock_sendall(sock, ticket.token.encode() + b"\n")
        parcel = await _receive(sock)
        try:
            facts = parcel.facts
            directory.record_process("qemu", facts.pid)
            if start_time(facts.pid) != facts.start_time:
                raise CacheError("the VM has ended while it was handed over")
            parcel.move_agent(directory.path)
            Path(ticket.journal).unlink(missing_ok=True)
            await loop.sock_sendall(sock, TAKEN)
        except BaseException:
            parcel.kill()
            parcel.close()
            raise
    return parcel


async def _receive(sock: socket.socket) -> Parcel:
    await _readable(sock)
    data, fds, _, _ = socket.recv_fds(sock, _READ, len(DESCRIPTORS), socket.MSG_CMSG_CLOEXEC)
    try:
        while not data.endswith(b"\n"):
            more = await asyncio.get_running_loop().sock_recv(sock, _READ)
            data += more
            if not more or len(data) > FACTS_LIMIT:
                raise CacheError("the VM was not handed over")
        facts = Facts.decode(data)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return Parcel.received(facts, fds)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock.fileno())
