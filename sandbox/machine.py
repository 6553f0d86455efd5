"""The VM of a pod with its helpers: its share, QEMU and the agent's connection, brought up and taken down together.

The death of any of them is one event with a cause: `lost` is set, `cause` says why, and the agent's connection is
closed, which ends every call that still waits for the guest. An agent's connection that is lost while its VM lives is
made again; only if that fails it is such a death.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.keeper import keep_connected
from hypervisor.errors import HypervisorError
from hypervisor.hotplug.disks import Disks
from hypervisor.qemu import QemuVm
from hypervisor.vm import Vm
from sandbox import guest_paths
from sandbox.errors import SandboxError, UnavailableError
from sandbox.guest_drivers import check_storages
from sandbox.network.following import follow
from sandbox.network.network import PodNetwork
from sandbox.phases import Phases
from sandbox.plan import SandboxPlan
from sandbox.resources.sizer import VmSizer
from sandbox.rundir import RunDirectory
from sandbox.sharing.share import Share
from sandbox.storage.container import PodStorage
from sandbox.storage.disks import PodDisks
from sandbox.together import together

if TYPE_CHECKING:
    from sandbox.cache.received import CachedVm
    from sandbox.factory.clone import Clone

    Ready = Clone | CachedVm

T = TypeVar("T")
#: Makes the machine that a plan describes; a third argument is the `Clone` or the `CachedVm` that its VM is.
MakeMachine = Callable[..., "Machine"]

#: How long QEMU may take to be up, in seconds; the boot of the guest is the agent's dial timeout.
VM_START_TIMEOUT = 20.0
#: How long the agent of a clone may take to answer, in seconds: it ran when the template was saved.
CLONE_AGENT_TIMEOUT = 20.0
#: How long the guest may take to sync and stop, then QEMU to quit, in seconds; containerd gives Shutdown 3 s in all.
GUEST_STOP_TIMEOUT = 1.0
VM_STOP_TIMEOUT = 1.0
#: How long a lost connection, or virtiofsd, waits for the process exit that explains its end, in seconds.
CAUSE_TIMEOUT = 0.5
#: How many lines of the guest's console an error quotes.
CONSOLE_LINES = 3

_log = logging.getLogger(__name__)


class Machine:
    """One VM, from `boot` to `close`."""

    def __init__(
        self, plan: SandboxPlan, vm: Vm, share: Share, network: PodNetwork | None = None, clone: Ready | None = None
    ) -> None:
        """`clone` if the VM is restored from a template, or comes from the cache: then the plan is its own."""
        self.plan = plan
        self._clone = clone
        self.vm = vm
        self.share = share
        self.network = network or PodNetwork()
        self.storage = PodStorage(plan.vm.name, plan.storage, share, PodDisks(Disks(vm.hotplug, plan.disks)))
        self._agent: AgentClient | None = None
        #: Has the VM follow what its containers may use.
        self.sizer = VmSizer(vm, plan.vm, plan.bounds, lambda: self.agent)
        self.lost = anyio.Event()
        self.cause = ""
        self._closing = False
        #: Held while the machine is taken down: its container's end and the daemon's may both ask for that.
        self._ending = anyio.Lock()

    @property
    def agent(self) -> AgentClient:
        """The agent; raises `UnavailableError` with the cause when there is none any more."""
        if self._agent is None or self.lost.is_set():
            raise UnavailableError(f"the sandbox has no running VM: {self.cause or 'it was not started'}")
        return self._agent

    @property
    def pid(self) -> int:
        """QEMU's pid."""
        return self.vm.pid

    async def boot(self, phases: Phases) -> None:
        """Bring everything up to an answering agent and a sandbox in the guest; on failure everything is gone again.

        Raises `SandboxError` with the phase, the cause and what QEMU and the guest said last.
        """
        try:
            await (self._boot(phases) if self._clone is None else self._restore(self._clone, phases))
        except BaseException as error:
            problem = self._explain(error, phases)
            self.cause = self.cause or str(problem or "its start was given up")
            # A guest that is not up yet has nothing to put in order.
            self._give_up()
            with anyio.CancelScope(shield=True):
                await self.close()
            if problem is None:
                raise
            raise problem from error

    async def _boot(self, phases: Phases) -> None:
        """From nothing to a guest that knows its sandbox."""
        await together(partial(self._start_share, phases), partial(self._attach_network, phases))
        with phases.phase("vm"):
            await self._start_vm()
        with phases.phase("agent"):
            agent = self._agent = await self._unless_lost(self._connect)
        with phases.phase("guest"):
            await self._unless_lost(partial(self._set_up_guest, agent))

    async def _restore(self, clone: Ready, phases: Phases) -> None:
        """From a template or the cache to the same; its interfaces can wait, so their making is beside it."""
        await together(partial(self._restore_guest, clone, phases), partial(self._attach_network, phases))
        if self.network.plan.is_carried:
            with phases.phase("interfaces"):
                await self.network.plug(self.vm.hotplug)
                await self._unless_lost(partial(self.network.configure, self.agent.network))
        with phases.phase("resize"):
            await self.sizer.reach_least()

    async def _restore_guest(self, clone: Ready, phases: Phases) -> None:
        await together(
            partial(self._start_share, phases),
            partial(_prepare, clone, phases),
            partial(self._start_clone, clone, phases),
        )
        with phases.phase("hotplug"):
            try:
                await clone.plug(self.vm)
            except HypervisorError as error:
                raise UnavailableError(self.share.exit_reason or str(error)) from error
            await self.vm.resume()
        with phases.phase("agent"):
            agent = self._agent = await self._unless_lost(self._connect)
        with phases.phase("identity"):
            await self._unless_lost(partial(clone.identify, agent))
        with phases.phase("guest"):
            await self._unless_lost(partial(self._set_up_clone, agent))

    async def _start_clone(self, clone: Ready, phases: Phases) -> None:
        with phases.phase(clone.starting):
            await self.vm.start(VM_START_TIMEOUT)

    async def _start_share(self, phases: Phases) -> None:
        with phases.phase("share"):
            await self.share.start(VM_START_TIMEOUT)

    async def _attach_network(self, phases: Phases) -> None:
        if self.network.plan.is_carried:
            with phases.phase("network"):
                await self.network.attach()

    async def _start_vm(self) -> None:
        try:
            self.network.place(self.vm.hotplug.slots)
            await self.vm.start(VM_START_TIMEOUT, self.network.nics)
        except HypervisorError as error:
            # QEMU gives up when virtiofsd is not there: then the cause is virtiofsd's.
            raise UnavailableError(self.share.exit_reason or str(error)) from error
        finally:
            self.network.release()

    async def _connect(self) -> AgentClient:
        if self._clone is None:
            return await AgentClient.connect(self.vm.agent_url, timeout=self.plan.dial_timeout)
        from sandbox.factory.clone import reach

        return await reach(self.vm.agent_url, min(self.plan.dial_timeout, CLONE_AGENT_TIMEOUT))

    async def _set_up_guest(self, agent: AgentClient) -> None:
        await self._learn(agent)
        await self.network.configure(agent.network)
        await self._create_sandbox(agent)

    async def _set_up_clone(self, agent: AgentClient) -> None:
        await self._learn(agent)
        await self._create_sandbox(agent)

    async def _learn(self, agent: AgentClient) -> None:
        asked, sharing = self.plan.create_sandbox, self.plan.sharing
        drivers = sharing.drivers | {storage.driver for storage in asked["storages"]}
        details = self._clone.guest_details if self._clone else None
        if details is None:
            details = await agent.get_guest_details(mem_block_size=True, mem_hotplug_probe=True)
        else:
            agent.learn(details)
        self.sizer.learn_block_size(details.mem_block_size_bytes)
        check_storages(details.agent_details, drivers, sharing.guest_needs)

    async def _create_sandbox(self, agent: AgentClient) -> None:
        try:
            await agent.create_sandbox(**self.plan.create_sandbox)
        except AgentError as error:
            if guest_paths.SHARED_TAG in error.message:
                raise UnavailableError(f"{error}; {self.plan.sharing.guest_needs}") from error
            raise

    def _explain(self, error: BaseException, phases: Phases) -> SandboxError | None:
        """The error to show; None for what is not a failed start, such as a cancellation."""
        if not isinstance(error, (AgentError, HypervisorError, SandboxError, OSError)):
            return None
        text = f"cannot start the sandbox: phase {phases.current} failed after {phases.total:.1f} s: {_words(error)}"
        if isinstance(error, AgentError):
            last = self.vm.diagnostics().console_tail.splitlines()[-CONSOLE_LINES:]
            text += (
                f"; the guest's console ended with: {' | '.join(last)}" if last else "; the guest's console is empty"
            )
        # What is refused is refused with its own code.
        return type(error)(text) if isinstance(error, SandboxError) else UnavailableError(text)

    async def _unless_lost(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`, or raise `UnavailableError` at once when QEMU or virtiofsd ends first."""
        results: list[T] = []
        failures: list[Exception] = []

        async def guard(group_scope: anyio.CancelScope) -> None:
            self.cause = await self._first_end()
            group_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(guard, group.cancel_scope)
            try:
                results.append(await work())
            except (AgentError, HypervisorError, SandboxError, OSError) as error:
                failures.append(error)
                if isinstance(error, AgentError) and error.lost:
                    await anyio.sleep(CAUSE_TIMEOUT)
            group.cancel_scope.cancel()
        if results:
            return results[0]
        if self.cause:
            raise UnavailableError(self.cause)
        raise failures[0]

    async def _first_end(self) -> str:
        """Wait until QEMU or virtiofsd has ended; return the reason."""
        reasons: list[str] = []

        async def qemu(scope: anyio.CancelScope) -> None:
            reasons.append((await self.vm.wait()).reason)
            scope.cancel()

        async def share(scope: anyio.CancelScope) -> None:
            reason = await self.share.ended()
            if self.share.exit_reason is None:
                # QEMU has hung up: its own end, which explains this one, is about to be seen.
                await anyio.sleep(CAUSE_TIMEOUT)
            reasons.append(reason)
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(qemu, group.cancel_scope)
            group.start_soon(share, group.cancel_scope)
        return reasons[0]

    async def follow_network(self) -> None:
        """Carry later changes of the pod's network into the VM, until it is lost."""
        await self._while_there(partial(follow, self.network, self.vm.hotplug, self.agent.network))

    async def forward_ports(self) -> None:
        """Connect the loopback of the pod's network namespace with the guest's, until the VM is lost."""
        if self.network.plan.is_carried and not self.lost.is_set() and self.agent.ports.are_served:
            from sandbox.network.forwarding import forward

            await self._while_there(partial(forward, self.network.namespace, self.agent))

    async def _while_there(self, work: Callable[[], Awaitable[None]]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._until_lost, group.cancel_scope)
            await work()
            group.cancel_scope.cancel()

    async def _until_lost(self, scope: anyio.CancelScope) -> None:
        await self.lost.wait()
        scope.cancel()

    async def watch(self) -> None:
        """Return when the machine is lost, with `cause` set; what is left of it is killed."""
        agent = self.agent
        causes: list[str] = []

        async def processes(scope: anyio.CancelScope) -> None:
            causes.insert(0, await self._first_end())
            scope.cancel()

        async def connection(scope: anyio.CancelScope) -> None:
            causes.append(await keep_connected(agent))
            # An exit says more than the loss that came with it.
            await anyio.sleep(CAUSE_TIMEOUT)
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(processes, group.cancel_scope)
            group.start_soon(connection, group.cancel_scope)
        self.cause = causes[0]
        if not self._closing:
            _log.error("the VM is lost: %s", self.cause)
        self._give_up()

    def _give_up(self) -> None:
        self.lost.set()
        self.vm.kill()
        self.share.kill()
        if self._agent:
            self._agent.close()

    async def close(self) -> None:
        """Take the machine down: the guest first, with a deadline, then the processes, then the mounts. Idempotent."""
        async with self._ending:
            await self._learn_cause()
            self._closing = True
            self.cause = self.cause or "it was stopped"
            if self._agent and not self.lost.is_set():
                await self._stop_guest(self._agent)
            self.lost.set()
            await self.vm.shutdown(VM_STOP_TIMEOUT)
            self._give_up()
            self.network.close()
            await self.share.close(VM_STOP_TIMEOUT)

    async def _learn_cause(self) -> None:
        """When the guest has hung up `watch` is about to tell why, which an end in order must not cover up."""
        if self._agent and self._agent.closed and not self.cause:
            with anyio.move_on_after(2 * CAUSE_TIMEOUT):
                await self.lost.wait()

    async def _stop_guest(self, agent: AgentClient) -> None:
        try:
            with anyio.move_on_after(GUEST_STOP_TIMEOUT):
                await agent.destroy_sandbox()
        except AgentError as error:
            # A guest that is down before its answer is out has done as it was told.
            _log.log(logging.DEBUG if error.lost else logging.INFO, "orderly stop of the guest: %s", error)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _prepare(clone: Ready, phases: Phases) -> None:
    if clone.prepares:
        with phases.phase("memory"):
            await clone.prepare()


def make_machine(
    plan: SandboxPlan, directory: RunDirectory, clone: Ready | None = None, network: PodNetwork | None = None
) -> Machine:
    """The real machine: its processes are journalled as soon as they have a pid. `clone`: its VM is not booted.

    `network` if that is on its way already.
    """
    on_spawn = partial(directory.record_process, "qemu")
    vm = QemuVm(plan.vm, on_spawn) if clone is None else clone.make_vm(on_spawn)
    share = plan.sharing.make(partial(directory.record_process, "virtiofsd"))
    return Machine(plan, vm, share, network or PodNetwork(plan.network, directory.record), clone)
