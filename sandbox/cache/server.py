"""The cache's server: one process with the pool, the service, and the hand-overs, until it is told to quit."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import anyio
from grpclib.server import Server

import config
from hypervisor import vsock
from hypervisor.accelerator import resolve
from hypervisor.sockets import remove
from protos.gen.cache import GrpcVmConfig
from sandbox.annotations import ContainerKind
from sandbox.cache.likeness import base_spec, unfit, vm_json
from sandbox.cache.maker import Maker, WaitingVm
from sandbox.cache.plan import CachePlan
from sandbox.cache.pool import Pool
from sandbox.cache.service import Leases, Service, listen
from sandbox.cache.state import CLAIM, State
from sandbox.oci import Linux, Namespace, Root, Spec
from sandbox.plan import Host, SandboxPlan, host_size, plan_sandbox

#: Seconds for the last answers of a server that ends.
LAST_WORDS = 1.0
#: A pod that sets nothing, and has a network of its own.
_ANY_POD = Spec(root=Root(path="/"), linux=Linux(namespaces=[Namespace(type="network")]))

_log = logging.getLogger(__name__)


class CacheUnusableError(Exception):
    """There can be no cache by this configuration; one line."""


def plan_for(file: Path | None, run_dir: Path) -> tuple[SandboxPlan, CachePlan]:
    """The plan of a pod that sets nothing of its own; raises `ConfigError`, `SandboxError`, `HypervisorError`."""
    settings = config.load(file)
    config.check_paths(settings)
    host = Host(host_size(), resolve(settings.hypervisor.accelerator), vsock.available())
    plan = plan_sandbox(settings, _ANY_POD, ContainerKind.SINGLE, "cache", run_dir, host)
    if plan.cache is None:
        raise CacheUnusableError(f"vm_cache_number is 0 in {settings.source}: there is no cache to be served")
    if reason := unfit(plan.vm):
        raise CacheUnusableError(f"no pod can take a VM from a cache: {reason}")
    return plan, plan.cache


async def serve(plan: SandboxPlan, cache: CachePlan, state: State, ready: Callable[[], None]) -> None:
    """Serve until Quit, SIGTERM or SIGINT; SIGUSR1 drains the pool. `ready` is called when clients can connect."""
    cache.endpoint.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    maker = Maker(plan, cache, state)
    config_answer = GrpcVmConfig(vm_json(base_spec(plan.vm, cache)).encode(), cache.agent.encode())

    async def make() -> WaitingVm:
        await maker.build_template()
        return await maker.make()

    with listen(state.path / CLAIM) as claims, listen(cache.endpoint) as calls:
        try:
            async with anyio.create_task_group() as group:
                pool = Pool(cache.number, make)
                leases = Leases(pool, claims, group)
                server = Server([Service(config_answer, pool, leases, group.cancel_scope.cancel)])
                await server.start(sock=calls)
                group.start_soon(pool.run)
                group.start_soon(leases.serve)
                group.start_soon(_obey, pool, group.cancel_scope)
                ready()
                _log.info("the cache serves %s", cache.endpoint, extra={"fields": {"vms": cache.number}})
        finally:
            remove(cache.endpoint)
            server.close()
            with anyio.move_on_after(LAST_WORDS, shield=True):
                await server.wait_closed()
    _log.info("the cache has ended", extra={"fields": {"pid": os.getpid()}})


async def _obey(pool: Pool[WaitingVm], scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as received:
        async for number in received:
            if number == signal.SIGUSR1:
                _log.info("the cache is drained")
                await pool.drain()
            else:
                scope.cancel()
                return
