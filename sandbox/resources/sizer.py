"""The VM follows what its containers may use: it grows before one is made or updated, and shrinks when limits fall.

A change is made whole or not at all, one after the other. What can't be given back is told in the log, and stays: vCPUs
the VM booted with; memory the guest can't empty; with QEMU's emulator, whose vCPUs can't be unplugged safely (QEMU
crashes at the next change of its memory map), the guest puts surplus CPUs to sleep instead, if its agent knows how.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
from grpclib.const import Status

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from hypervisor.errors import HypervisorError, VmGoneError
from hypervisor.hotplug.cpus import Vcpus
from hypervisor.hotplug.memory import Dimms, PluggableMemory, VirtioMem
from hypervisor.vm import MEMORY_BLOCK_MIB, Vm, VmSpec
from sandbox.errors import FailedPreconditionError, UnavailableError
from sandbox.guest_errors import guest_errors
from sandbox.oci import Resources
from sandbox.resources.demand import Range, changed
from sandbox.sizing import Limits, VmSize

#: Seconds for the guest to use what was plugged in.
ONLINE_TIMEOUT = 20.0
_MOST_BLOCK_MIB = 2048

_log = logging.getLogger(__name__)


class VmSizer:
    """Owner of the size of one VM. `agent` gives the guest's agent, or raises `UnavailableError`."""

    def __init__(self, vm: Vm, spec: VmSpec, bounds: Range, agent: Callable[[], AgentClient]) -> None:
        self._bounds = bounds
        self._agent = agent
        #: Whether vCPUs can go.
        self._unplugs = spec.accelerator != "tcg"
        self._vcpus = Vcpus(vm.hotplug, can_go=self._unplugs)
        self._memory: PluggableMemory = Dimms(vm.hotplug, spec.memory_slots)
        if spec.virtio_mem:
            self._memory = VirtioMem(vm.hotplug, spec.virtio_mem_mib)
        #: vCPUs that the guest does not use: they could not go, or a growth has failed before it was told of them.
        self._asleep = 0
        #: Whether a growth has failed half-way: what the VM has more by it is not counted as its size.
        self._has_leftovers = False
        #: Who is told of the threads of vCPUs.
        self._found: Callable[[list[int]], None] | None = None
        self._demand: dict[str, Limits] = {}
        #: What the pod was told that its containers may use together, if it was told after the VM's start.
        self._pod = Limits()
        self._block_mib = MEMORY_BLOCK_MIB
        #: What the VM started with: its least size, or that of its template.
        self._first = VmSize(spec.vcpus, spec.memory_mib)
        #: What the VM has, as far as the guest uses it.
        self.size = self._first
        #: Held by whatever changes the VM's size, and by an update from its growth to the guest's word.
        self._lock = anyio.Lock()
        self._surplus = anyio.Event()

    async def follow_vcpus(self, found: Callable[[list[int]], None]) -> None:
        """Tell `found` the thread ids of all vCPUs, now and whenever there are more."""
        async with self._lock:
            self._found = found
            await self._tell_vcpus()

    async def vcpu_threads(self) -> list[int]:
        """Ids of the threads that run vCPUs; raises `HypervisorError`."""
        return await self._vcpus.threads()

    async def _tell_vcpus(self) -> None:
        if self._found is None:
            return
        try:
            self._found(await self.vcpu_threads())
        except HypervisorError as error:
            _log.warning("the threads of the vCPUs are not known: %s", error)

    def learn_block_size(self, size: int) -> None:
        """Have memory come in the guest's memory blocks of `size` bytes; what makes no sense is left out."""
        mib = size >> 20
        if 1 <= mib <= _MOST_BLOCK_MIB and not mib & (mib - 1):
            self._block_mib = max(mib, MEMORY_BLOCK_MIB)

    async def admit(self, container_id: str, limits: Limits) -> None:
        """Make room for a new container, as much as the VM may have: a limit is no promise, so more is no error.

        Raises `SandboxError` when the VM can't grow; then it is as before.
        """
        async with self._lock:
            with self._rolled_back(container_id, limits):
                await self._grow_to_demand(f"make room for container {container_id}")

    async def reach_least(self) -> None:
        """Grow a VM that has started with less than its least size; raises `SandboxError`."""
        async with self._lock:
            await self._grow_to_demand("give the VM its size")

    def release(self, container_id: str) -> None:
        """A container is gone: its share is given back as soon as `follow` comes to it. Idempotent."""
        if self._demand.pop(container_id, None):
            self._surplus.set()

    @asynccontextmanager
    async def updating(self, container_id: str, resources: Resources) -> AsyncIterator[None]:
        """Around an update of a container's limits in the guest: the VM grows before, and shrinks after.

        Raises `FailedPreconditionError` for more memory than the VM may ever have, `SandboxError` when it can't grow.
        If the body raises, everything is as before.
        """
        async with self._lock:
            old = self._demand.get(container_id)
            if old is None:
                yield
                return
            new = changed(old, resources)
            with self._rolled_back(container_id, new):
                self._refuse_excess(f"container {container_id}", old, new)
                await self._grow_to_demand(f"make room for the update of container {container_id}")
                yield
        self._surplus.set()

    async def resize_pod(self, limits: Limits) -> None:
        """Have the VM be large enough for containers that use `limits` together, and no larger than they all need.

        Raises `FailedPreconditionError` for more memory than the VM may ever have and for any change of a VM of static
        size, `SandboxError` when it can't grow; then everything is as before.
        """
        async with self._lock:
            before, self._pod = self._pod, limits
            try:
                self._refuse_excess("the sandbox", before, limits)
                if self._bounds.is_fixed and self._bounds.bounded(self._wanted()) != self._wanted():
                    raise FailedPreconditionError("the sandbox has a VM of static size (static_sandbox_resource_mgmt)")
                await self._grow_to_demand("make room for the update of the sandbox")
            except BaseException:
                self._pod = before
                self._surplus.set()
                raise
        self._surplus.set()

    async def follow(self) -> None:
        """Give back what nobody may use any more, until cancelled or the VM is gone."""
        while True:
            await self._surplus.wait()
            self._surplus = anyio.Event()
            async with self._lock:
                try:
                    await self._shrink(self._target())
                except (UnavailableError, VmGoneError):
                    return
                except (AgentError, HypervisorError) as error:
                    _log.warning("the VM does not shrink: %s", error)

    @contextmanager
    def _rolled_back(self, container_id: str, limits: Limits) -> Iterator[None]:
        """Count `limits` for the container; if the body raises, what counted before."""
        before = self._demand.get(container_id)
        self._demand[container_id] = limits
        try:
            yield
        except BaseException:
            self._demand.pop(container_id)
            if before is not None:
                self._demand[container_id] = before
            self._surplus.set()
            raise

    def _wanted(self) -> VmSize:
        """The size for what all containers may use, and for what the pod was told, whatever the VM may have."""
        all_, pod = self._bounds.wanted(self._demand.values()), self._bounds.wanted([self._pod])
        return VmSize(max(all_.vcpus, pod.vcpus), max(all_.memory_mib, pod.memory_mib))

    def _target(self) -> VmSize:
        return self._bounds.bounded(self._wanted())

    def _refuse_excess(self, who: str, old: Limits, new: Limits) -> None:
        wanted, most = self._wanted(), self._bounds.most
        if self._bounds.is_fixed or new.memory_mib <= old.memory_mib or wanted.memory_mib <= most.memory_mib:
            return
        raise FailedPreconditionError(
            f"{who} can't have {new.memory_mib} MiB: the VM would need {wanted.memory_mib} MiB, and "
            f"may have {most.memory_mib} (default_maxmemory, or the host's memory)"
        )

    async def _grow_to_demand(self, what: str) -> None:
        wanted, target = self._wanted(), self._target()
        if target != wanted and not self._bounds.is_fixed:
            _log.warning("the containers may use %s, and the VM may have %s at most", wanted, target)
        if target.vcpus <= self.size.vcpus and target.memory_mib <= self.size.memory_mib:
            return
        try:
            with guest_errors(what):
                await self._grow(target)
        except HypervisorError as error:
            raise UnavailableError(f"{what}: {error}") from error
        _log.info("the VM has grown", extra={"fields": self._fields()})

    async def _grow(self, target: VmSize) -> None:
        cpus = await self._add_cpus(target.vcpus) if target.vcpus > self.size.vcpus else 0
        try:
            if cpus:
                await self._tell_vcpus()
            before = self._memory.plugged_mib
            await self._memory.grow(target.memory_mib - self._first.memory_mib, self._block_mib)
            has_memory = self._memory.plugged_mib > before
            if cpus or has_memory:
                await self._use(cpus, has_memory, max(target.vcpus, self.size.vcpus))
        except BaseException:
            self._asleep += cpus
            self._has_leftovers = True
            raise
        await self._look()

    async def _add_cpus(self, count: int) -> int:
        """Have `count` that are awake or can be woken; returns how many the guest has to set online."""
        there = await self._vcpus.count()
        missing = max(0, count - (there - self._asleep))
        woken = min(missing, self._asleep)
        try:
            added = await self._vcpus.grow(there + missing - woken)
        except HypervisorError:
            # Those that have come and can't go.
            self._asleep += max(0, await self._vcpus.count() - there)
            self._has_leftovers = True
            raise
        self._asleep -= woken
        return woken + added

    async def _use(self, cpus: int, has_memory: bool, most_cpus: int) -> None:
        """Have the guest use new CPUs and memory; one that is slow to find them is asked once more."""
        agent = self._agent()
        try:
            await agent.online_cpu_mem(
                cpus, wait=True, cpu_only=not has_memory, most_cpus=most_cpus, timeout=ONLINE_TIMEOUT
            )
        except AgentError as error:
            if error.lost or not _tells_of_slowness(error):
                raise
            _log.warning("the guest is slow to use its new CPUs: %s", error)
            # Kata's agent has no patience to spare: only memory is left to ask for.
            again = cpus if agent.sets_cpus_offline else 0
            await agent.online_cpu_mem(again, cpu_only=not has_memory, most_cpus=most_cpus, timeout=ONLINE_TIMEOUT)

    async def _shrink(self, target: VmSize) -> None:
        if self._has_leftovers:
            await self._look()
        before = self.size
        if target.vcpus < before.vcpus or (self._has_leftovers and self._asleep):
            await self._remove_cpus(target.vcpus)
        if target.memory_mib < before.memory_mib:
            problem = await self._memory.shrink(target.memory_mib - self._first.memory_mib)
            if problem is not None:
                _log.warning("memory of the VM stays: %s", problem)
        self._has_leftovers = False
        await self._look()
        if self.size != before:
            _log.info("the VM has shrunk", extra={"fields": self._fields()})

    async def _remove_cpus(self, count: int) -> None:
        agent = self._agent()
        if self._unplugs:
            if problem := await self._vcpus.shrink(count):
                _log.warning("vCPUs of the VM stay: %s", problem)
            if self._asleep:
                self._asleep = min(self._asleep, max(0, await self._vcpus.count() - count))
        elif agent.sets_cpus_offline:
            await agent.online_cpu_mem(0, cpu_only=True, most_cpus=count, timeout=ONLINE_TIMEOUT)
            self._asleep = max(0, await self._vcpus.count() - count)
        else:
            _log.warning("vCPUs of the VM stay: QEMU's emulator can't unplug them")

    async def _look(self) -> None:
        """Learn what the VM has now."""
        vcpus = await self._vcpus.count() - self._asleep
        self.size = VmSize(max(vcpus, self._first.vcpus), self._first.memory_mib + self._memory.plugged_mib)

    def _fields(self) -> dict[str, int]:
        return {"vcpus": self.size.vcpus, "memory_mib": self.size.memory_mib}


def _tells_of_slowness(error: AgentError) -> bool:
    """Whether CPUs have not come online in time, in our agent's words or in those of Kata's."""
    return error.code is Status.DEADLINE_EXCEEDED or "failed to online" in error.message
