"""The VM of a pod with its helpers: virtiofsd, QEMU and the agent's connection, brought up and taken down together.

The death of any of them is one event with a cause: `lost` is set, `cause` says why, and the agent's connection is
closed, which ends every call that still waits for the guest.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from hypervisor.errors import HypervisorError
from hypervisor.qemu import QemuVm
from hypervisor.virtiofsd import Virtiofsd
from hypervisor.vm import Vm
from sandbox.errors import SandboxError, UnavailableError
from sandbox.phases import Phases
from sandbox.plan import SandboxPlan
from sandbox.rundir import RunDirectory
from sandbox.share import SharedDirectory

T = TypeVar("T")
#: Makes the machine that a plan describes.
MakeMachine = Callable[[SandboxPlan, RunDirectory], "Machine"]

#: How long QEMU may take to be up, in seconds; the boot of the guest is the agent's dial timeout.
VM_START_TIMEOUT = 20.0
#: How long the guest may take to sync and stop, then QEMU to quit, in seconds; containerd gives Shutdown 3 s in all.
GUEST_STOP_TIMEOUT = 1.0
VM_STOP_TIMEOUT = 1.0
#: How long a lost connection waits for the process exit that explains it, in seconds.
CAUSE_TIMEOUT = 0.5
#: How many lines of the guest's console an error quotes.
CONSOLE_LINES = 3

_log = logging.getLogger(__name__)


class Machine:
    """One VM, from `boot` to `close`. `share` is open for mounts as soon as the machine is made."""

    def __init__(self, plan: SandboxPlan, vm: Vm, virtiofsd: Virtiofsd) -> None:
        self.plan = plan
        self.vm = vm
        self.virtiofsd = virtiofsd
        self.share = SharedDirectory(plan.shared_dir)
        self._agent: AgentClient | None = None
        self.lost = anyio.Event()
        self.cause = ""
        self._closing = False

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
            with phases.phase("share"):
                self.share.prepare()
            with phases.phase("virtiofsd"):
                await self.virtiofsd.start(VM_START_TIMEOUT)
            with phases.phase("vm"):
                await self._start_vm()
            with phases.phase("agent"):
                self._agent = await self._unless_lost(self._connect)
            with phases.phase("guest"):
                await self._unless_lost(partial(self._agent.create_sandbox, **self.plan.create_sandbox))
        except BaseException as error:
            problem = self._explain(error, phases)
            with anyio.CancelScope(shield=True):
                await self.close()
            if problem is None:
                raise
            raise problem from error

    async def _start_vm(self) -> None:
        try:
            await self.vm.start(VM_START_TIMEOUT)
        except HypervisorError as error:
            # QEMU gives up when virtiofsd is not there: then the cause is virtiofsd's.
            raise UnavailableError(self.virtiofsd.exit_reason or str(error)) from error

    async def _connect(self) -> AgentClient:
        return await AgentClient.connect(self.vm.agent_url, timeout=self.plan.dial_timeout)

    def _explain(self, error: BaseException, phases: Phases) -> SandboxError | None:
        """The error to show; None for what is not a failed start, such as a cancellation."""
        if not isinstance(error, (AgentError, HypervisorError, SandboxError)):
            return None
        text = f"cannot start the sandbox: phase {phases.current} failed after {phases.total:.1f} s: {error}"
        if isinstance(error, AgentError):
            last = self.vm.diagnostics().console_tail.splitlines()[-CONSOLE_LINES:]
            text += (
                f"; the guest's console ended with: {' | '.join(last)}" if last else "; the guest's console is empty"
            )
        return UnavailableError(text)

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
            except AgentError as error:
                failures.append(error)
                if error.lost:
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

        async def virtiofsd(scope: anyio.CancelScope) -> None:
            reasons.append(await self.virtiofsd.wait())
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(qemu, group.cancel_scope)
            group.start_soon(virtiofsd, group.cancel_scope)
        return reasons[0]

    async def watch(self) -> None:
        """Return when the machine is lost, with `cause` set; what is left of it is killed."""
        agent = self.agent
        ended: list[str] = []

        async def processes(scope: anyio.CancelScope) -> None:
            ended.append(await self._first_end())
            scope.cancel()

        async def connection(scope: anyio.CancelScope) -> None:
            await agent.wait_closed()
            await anyio.sleep(CAUSE_TIMEOUT)
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(processes, group.cancel_scope)
            group.start_soon(connection, group.cancel_scope)
        self.cause = ended[0] if ended else "the agent closed its connection"
        if not self._closing:
            _log.error("the VM is lost: %s", self.cause)
        self._give_up()

    def _give_up(self) -> None:
        self.lost.set()
        self.vm.kill()
        self.virtiofsd.kill()
        if self._agent:
            self._agent.close()

    async def close(self) -> None:
        """Take the machine down: the guest first, with a deadline, then the processes, then the mounts. Idempotent."""
        self._closing = True
        self.cause = self.cause or "it was stopped"
        if self._agent and not self.lost.is_set():
            await self._stop_guest(self._agent)
        self.lost.set()
        await self.vm.shutdown(VM_STOP_TIMEOUT)
        self._give_up()
        if self.virtiofsd.pid:
            with anyio.move_on_after(VM_STOP_TIMEOUT):
                await self.virtiofsd.wait()
        self.share.close()

    async def _stop_guest(self, agent: AgentClient) -> None:
        try:
            with anyio.move_on_after(GUEST_STOP_TIMEOUT):
                await agent.destroy_sandbox()
        except AgentError as error:
            _log.info("orderly stop of the guest: %s", error)


def make_machine(plan: SandboxPlan, directory: RunDirectory) -> Machine:
    """The real machine: QEMU and virtiofsd, journalled as soon as they have a pid."""
    vm = QemuVm(plan.vm, on_spawn=partial(directory.record_process, "qemu"))
    virtiofsd = Virtiofsd(plan.virtiofsd, on_spawn=partial(directory.record_process, "virtiofsd"))
    return Machine(plan, vm, virtiofsd)
