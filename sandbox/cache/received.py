"""A VM out of the cache on its way to being a pod's own: as `sandbox.factory.clone.Clone`, but it runs already."""

from __future__ import annotations

from dataclasses import replace

from agent_client.client import AgentClient
from hypervisor.devices import SharedFs
from hypervisor.handover.parcel import Parcel
from hypervisor.handover.vm import ReceivedVm
from hypervisor.hotplug import shared_fs
from hypervisor.vm import OnSpawn, Vm, VmSpec
from sandbox.factory.clone import identify
from sandbox.plan import SandboxPlan

#: The steps of a start that only such a VM has, or where a bad one shows: what fails in them is tried by another VM.
PHASES = frozenset({"adopt", "hotplug", "agent", "identity"})


class CachedVm:
    """One VM of the cache. If it becomes no machine's, `close` ends it."""

    #: It has its memory, and its state; see `Clone`.
    prepares = False
    starting = "adopt"
    #: Its agent is asked.
    guest_details = None

    def __init__(self, plan: SandboxPlan, base: VmSpec, parcel: Parcel) -> None:
        self._fs = plan.vm.shared_fs
        self._parcel = parcel
        #: The pod's plan with this VM in place of one that would be booted.
        self.plan = replace(plan, vm=replace(base, name=plan.vm.name, run_dir=plan.vm.run_dir))

    @property
    def origin(self) -> str:
        """How it came to be: `cold` or `template`."""
        return self._parcel.facts.origin

    def make_vm(self, on_spawn: OnSpawn) -> Vm:
        """The VM; it has been journalled."""
        return ReceivedVm(self.plan.vm, self._parcel)

    async def prepare(self) -> None:
        """There is nothing to prepare."""

    async def plug(self, vm: Vm) -> None:
        """Plug in the shared file system; raises `HypervisorError`."""
        if isinstance(self._fs, SharedFs):
            await shared_fs.plug(vm.hotplug, self._fs)

    async def identify(self, agent: AgentClient) -> None:
        """Make the guest like no other; raises `AgentError`."""
        await identify(agent)

    def close(self) -> None:
        """Close what no VM has taken up; idempotent."""
        self._parcel.close()
