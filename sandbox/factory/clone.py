"""A VM that is restored from a template, on its way to being a pod's own.

| step        | what                                                                                     |
|-------------|------------------------------------------------------------------------------------------|
| `prepare`   | copy the memory, if it has to be, while the share and QEMU start                           |
| (restore)   | the VM reads the state, and stands still                                                   |
| `plug`      | the shared file system, for the guest to find when it goes on                              |
| (resume)    | the guest goes on where the template stood, and its agent answers                          |
| `identify`  | random numbers and clock, before anything of the pod runs                                  |
| (plug)      | the network's interfaces (`PodNetwork.plug`), whose making goes on beside all of this      |

Hostname, machine id, network and mounts come with what every guest is told (`CreateSandbox` and so on).
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace

import anyio
from grpclib.const import Status

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from hypervisor.devices import SharedFs
from hypervisor.hotplug import shared_fs
from hypervisor.qemu import QemuVm
from hypervisor.template.copying import copy_sparse
from hypervisor.template.store import Template, TemplateStore
from hypervisor.vm import OnSpawn, SavedState, Vm, VmSpec
from protos.codec import decode
from protos.gen.grpc import GuestDetailsResponse
from sandbox.factory.plan import MemoryWay
from sandbox.plan import SandboxPlan

#: Bytes of the host's entropy: what Linux' generator holds, and more.
SEED_SIZE = 256
#: How far the guest's clock may be behind the host's, in seconds, and how often it is set until it is not.
CLOCK_ERROR = 0.1
CLOCK_TRIES = 5
#: Seconds until an agent that does not answer is asked again; the next attempt is given twice as long.
ATTEMPT_TIMEOUT = 3.0
#: The steps of a start that only a clone has, or where a bad template shows: what fails in them is tried by a boot.
PHASES = frozenset({"memory", "restore", "hotplug", "agent", "identity"})

_log = logging.getLogger(__name__)


class Clone:
    """One clone of `template`; `close` it when the VM is up, or will not be."""

    #: The phase that its VM's `start` is.
    starting = "restore"

    def __init__(
        self, store: TemplateStore, template: Template, plan: SandboxPlan, base: VmSpec, way: MemoryWay
    ) -> None:
        """`base` is the template's own VM, `plan` that of the pod. Raises `OSError`, ValueError for a bad template."""
        #: What the template's agent said of itself; its clone's would say the same.
        self.guest_details = decode(GuestDetailsResponse, template.guest)
        self._store = store
        self._template = template
        self._way = way
        self._fs = plan.vm.shared_fs
        self._is_copied = anyio.Event()
        if way == "copy":
            self._memory = os.memfd_create("kata-clone")
            os.ftruncate(self._memory, os.fstat(template.memory).st_size)
            saved = SavedState(self._memory, template.state, is_shared=True, complete=self._is_copied.wait)
        else:
            self._memory = os.dup(template.memory)
            saved = SavedState(self._memory, template.state, is_shared=False)
        vm = replace(base, name=plan.vm.name, run_dir=plan.vm.run_dir, saved=saved)
        #: The pod's plan with the VM that is restored in place of the one that would be booted.
        self.plan = replace(plan, vm=vm)

    @property
    def prepares(self) -> bool:
        """Whether `prepare` has something to do."""
        return self._way == "copy"

    def make_vm(self, on_spawn: OnSpawn) -> Vm:
        """The VM, not yet started."""
        return QemuVm(self.plan.vm, on_spawn)

    async def prepare(self) -> None:
        """Copy the memory if the clone has one of its own; raises `HypervisorError`."""
        if self._way == "copy":
            await copy_sparse(self._template.memory, self._memory)
            self._is_copied.set()

    async def plug(self, vm: Vm) -> None:
        """Plug in the shared file system; raises `HypervisorError`."""
        if isinstance(self._fs, SharedFs):
            await shared_fs.plug(vm.hotplug, self._fs)

    async def identify(self, agent: AgentClient) -> None:
        """Make the guest another one than its template; raises `AgentError`."""
        await identify(agent)

    def drop(self, why: str) -> None:
        """The template is of no use: nobody shall try it again."""
        self._store.drop(self._template.key, why)

    def close(self) -> None:
        """Close our copies of its files; idempotent."""
        self._template.close()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


async def reach(url: str, timeout: float) -> AgentClient:
    """Connect to a clone's agent, within `timeout` seconds; raises `AgentError`.

    A guest that goes on in the middle of its template's life may miss that another host has come, so it is asked again.
    """
    end = anyio.current_time() + timeout
    attempt = ATTEMPT_TIMEOUT
    while True:
        left = end - anyio.current_time()
        try:
            return await AgentClient.connect(url, timeout=min(attempt, left))
        except AgentError as error:
            if error.code is not Status.DEADLINE_EXCEEDED or attempt >= left:
                raise
            _log.warning("the clone is asked again: %s", error)
        attempt *= 2


async def identify(agent: AgentClient) -> None:
    """Give a guest that did not boot for its pod random numbers and a clock of its own; raises `AgentError`.

    The guest's clock lags behind by no more than its answer took: a slow one is set again.
    """
    await agent.reseed_random_dev(os.urandom(SEED_SIZE))
    lag = float("inf")
    for _ in range(CLOCK_TRIES):
        began = time.monotonic()
        await agent.set_guest_date_time(time.time_ns())
        lag = time.monotonic() - began
        if lag <= CLOCK_ERROR:
            return
    _log.warning("the guest's clock may be %.2f s behind: its agent answers that slowly", lag)
