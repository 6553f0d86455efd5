"""A VM for the pool: booted, or restored from a template where there is one, seen to answer, and paused."""

from __future__ import annotations

import itertools
import logging
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from hypervisor.errors import HypervisorError
from hypervisor.handover.parcel import Parcel
from hypervisor.handover.vm import GivenVm
from hypervisor.vm import Vm, VmSpec
from sandbox.cache.likeness import base_spec
from sandbox.cache.plan import CachePlan
from sandbox.cache.state import JOURNAL, State, record
from sandbox.factory.clone import Clone
from sandbox.factory.templates import Templates
from sandbox.plan import SandboxPlan
from sandbox.rundir import start_time

#: Seconds for QEMU to be up, for a look at a VM that waits, and for one to be gone.
START_TIMEOUT = 20.0
LOOK_TIMEOUT = 20.0
#: Seconds that the guest has for itself before it is paused.
SETTLE = 0.5
#: How much its boot gives way to the pods of the node (nice(2)).
NICENESS = 10

_log = logging.getLogger(__name__)


class WaitingVm:
    """One VM of the cache. Satisfies `pool.PoolVm`."""

    def __init__(self, name: str, vm: GivenVm, place: Path, origin: str, spec: VmSpec) -> None:
        self.id = name
        self.origin = origin
        self.vcpus, self.memory_mib = spec.vcpus, spec.memory_mib
        self.pid = vm.pid
        self.place = place
        self._vm = vm

    @property
    def journal(self) -> Path:
        """What its later owner removes when it has it in its own."""
        return self.place / JOURNAL

    async def ended(self) -> str:
        """Wait for its end; why."""
        return (await self._vm.wait()).reason

    async def look(self) -> str:
        """Have its agent answer; what is wrong, or nothing."""
        try:
            await self._vm.resume()
            await visit(self._vm.agent_url, LOOK_TIMEOUT)
            await self._vm.pause()
        except (AgentError, HypervisorError) as error:
            return str(error)
        return ""

    async def release(self) -> Parcel:
        """Its descriptors and facts: it is nobody's now. Raises `HypervisorError`."""
        began = start_time(self.pid)
        if began is None:
            raise HypervisorError(f"VM {self.id} has ended")
        return await self._vm.release(began, self.origin)

    def forget(self) -> None:
        """It is another's: remove the directory it had here."""
        shutil.rmtree(self.place, ignore_errors=True)

    async def end(self) -> None:
        """Kill it, and remove its directory; idempotent."""
        await _end(self._vm)
        self.forget()


class Maker:
    """Makes the VMs of one configuration; `plan` is that of a pod of it."""

    def __init__(self, plan: SandboxPlan, cache: CachePlan, state: State) -> None:
        self._plan = plan
        self._base = base_spec(plan.vm, cache)
        self._state = state
        self._numbers = itertools.count(1)
        self._templates = Templates(plan, plan.factory) if plan.factory is not None else None

    async def make(self) -> WaitingVm:
        """Make one; raises `HypervisorError`, `AgentError`, `OSError`, and nothing is left then."""
        began = time.monotonic()
        clone = self._templates.clone() if self._templates is not None else None
        made = await self._restore(clone) if clone is not None else None
        if made is None:
            made = await self._boot(self._base, "cold")
        took = f"{time.monotonic() - began:.1f}s"
        fields = {"vm": made.id, "pid": made.pid, "origin": made.origin, "took": took}
        _log.info("VM waits in the cache", extra={"fields": fields})
        return made

    async def build_template(self) -> None:
        """Build the template that later VMs are restored from, if they shall be and there is none."""
        if self._templates is not None:
            await self._templates.build(partial(_log.debug, "a template's VM: pid %d"))

    async def _restore(self, clone: Clone) -> WaitingVm | None:
        try:
            await clone.prepare()
            return await self._boot(clone.plan.vm, "template")
        except (HypervisorError, AgentError) as error:
            clone.drop(str(error))
            return None
        finally:
            clone.close()

    async def _boot(self, spec: VmSpec, origin: str) -> WaitingVm:
        name = f"vm-{next(self._numbers)}"
        place = self._state.add(name)
        spec = replace(spec, name=f"cache-{name}", run_dir=place, nics=(), shared_fs=None)
        about = {"id": name, "vcpus": spec.vcpus, "memory_mib": spec.memory_mib, "origin": origin}
        vm = GivenVm(spec, lambda pid: record(place, pid, about), NICENESS)
        try:
            await vm.start(START_TIMEOUT)
            if origin != "cold":
                await vm.resume()
            await visit(vm.agent_url, self._plan.dial_timeout)
            await vm.pause()
        except BaseException:
            await _end(vm)
            shutil.rmtree(place, ignore_errors=True)
            raise
        return WaitingVm(name, vm, place, origin, spec)


async def visit(url: str, timeout: float) -> None:
    """See that the agent works, and have it load what every pod asks for; raises `AgentError`."""
    agent = await AgentClient.connect(url, timeout=timeout)
    try:
        await agent.get_guest_details(mem_block_size=True, mem_hotplug_probe=True)
    finally:
        agent.close()
        await agent.wait_closed()
        # What the agent does about the end of a connection it has done before a pod needs it.
        await anyio.sleep(SETTLE)


async def _end(vm: Vm) -> None:
    vm.kill()
    if vm.pid:
        with anyio.CancelScope(shield=True):
            await vm.wait()
