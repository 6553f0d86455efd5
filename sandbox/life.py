"""A pod that the Sandbox API drives: made, booted and stopped apart from its containers.

Its VM is up before the first container is created and stays after the last is gone; its end is an event of its own,
asked for or not. Implements `sandbox.interface.PodLife`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from agent_client.errors import AgentError
from sandbox import boot, oci, pod_namespaces, pod_stats, podspec, signals
from sandbox.annotations import ContainerKind
from sandbox.container import Container
from sandbox.detached import detached
from sandbox.errors import (
    AlreadyExistsError,
    DeadlineError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    SandboxError,
    UnavailableError,
)
from sandbox.interface import ExitInfo, ProcessState, ProcessStatus, SandboxRequest, SandboxStatus, StdioUris
from sandbox.machine import Machine
from sandbox.phases import Phases
from sandbox.plan import SandboxPlan
from sandbox.pod_state import PodState
from sandbox.pod_update import updated_spec
from sandbox.runner import EXIT_KILLED
from sandbox.sizing import requested

#: How long the guest may take for the statistics of all containers, in seconds.
STATS_TIMEOUT = 1.5
SIGTERM = 15

_log = logging.getLogger(__name__)


class Stage(StrEnum):
    """Where the pod is in its life."""

    CREATED = "created"
    READY = "ready"
    STOPPED = "stopped"


class Life:
    """The life of one pod; `end_creations` gives up what containers are being made."""

    def __init__(self, pod: PodState, end_creations: Callable[[], Awaitable[None]]) -> None:
        self._pod = pod
        self._end_creations = end_creations
        self._request: SandboxRequest | None = None
        self._stage = Stage.CREATED
        self._was_up = False
        self._created_at_ns = 0
        self._exit: ExitInfo | None = None
        self._ended = anyio.Event()
        #: Whether the end of the VM is what was asked for.
        self._is_stopping = False
        #: Held while the VM is brought up or taken down.
        self._moving = anyio.Lock()
        self._start_scope: anyio.CancelScope | None = None

    @property
    def exists(self) -> bool:
        """Whether `create` has been."""
        return self._request is not None

    @property
    def is_waiting(self) -> bool:
        """Whether it was created and never was up, nor is about to be."""
        return self.exists and not self._was_up and not self._moving.locked()

    async def create(self, request: SandboxRequest) -> None:
        """Check and keep what the pod is to be."""
        pod = self._pod
        if request.sandbox_id != pod.identity.sandbox_id:
            raise InvalidArgumentError(f"this is the shim of sandbox {pod.identity.sandbox_id}")
        if self.exists or pod.machine is not None or pod.containers:
            raise AlreadyExistsError(f"sandbox {request.sandbox_id} already exists")
        if request.netns_path:
            podspec.check_network_namespace(request.netns_path)
        pod_namespaces.check_settings(request.settings.host_namespaces)
        try:
            podspec.write_files(request.settings, self._files)
        except OSError as error:
            raise SandboxError(f"files of sandbox {request.sandbox_id}: {error}") from error
        pod.own_spec = podspec.pod_spec(request, pod.identity.namespace, self._files)
        self._request = request
        self._created_at_ns = time.time_ns()
        # What makes no sense is told at once, not when the VM is to boot.
        try:
            self._plan(request)
        except BaseException:
            self._request = pod.own_spec = None
            raise

    @property
    def _files(self) -> Path:
        return self._pod.pod_files

    def _plan(self, request: SandboxRequest) -> SandboxPlan:
        spec = self._pod.own_spec
        if spec is None:
            raise UnavailableError(f"sandbox {request.sandbox_id} was not created")
        return boot.make_plan(self._pod, spec, ContainerKind.SANDBOX, request.config_path, request.config_body)

    async def start(self, timeout: float | None) -> SandboxStatus:
        """Boot the VM, in one piece even if the caller goes."""
        request = self._require()
        await detached(self._pod.group, partial(self._start, request, timeout))
        return self.status()

    async def _start(self, request: SandboxRequest, timeout: float | None) -> None:
        async with self._moving:
            if self._stage is not Stage.CREATED:
                raise FailedPreconditionError(f"cannot start sandbox {request.sandbox_id}: it is {self._stage}")
            phases = Phases()
            with anyio.CancelScope() as scope:
                if timeout is not None:
                    scope.deadline = anyio.current_time() + timeout
                self._start_scope = scope
                try:
                    machine = await self._boot(request, phases)
                finally:
                    self._start_scope = None
                self._stage, self._was_up = Stage.READY, True
                self._pod.group.start_soon(self._follow, machine)
                return
        raise self._given_up(request, timeout, phases)

    async def _boot(self, request: SandboxRequest, phases: Phases) -> Machine:
        with phases.phase("config"):
            plan = self._plan(request)
        return await boot.bring_up(self._pod, plan, phases)

    def _given_up(self, request: SandboxRequest, timeout: float | None, phases: Phases) -> SandboxError:
        what = f"phase {phases.current} ({phases}); everything is undone"
        if self._is_stopping or timeout is None:
            return UnavailableError(f"the start of sandbox {request.sandbox_id} was given up in {what}")
        return DeadlineError(f"sandbox {request.sandbox_id} was not up within {timeout:.1f} s: it was in {what}")

    async def _follow(self, machine: Machine) -> None:
        """Stay with the VM to its end."""
        await machine.lost.wait()
        with anyio.CancelScope(shield=True):
            # Where nobody asked for the end there is still something to clear away.
            await machine.close()
        await self._pod.see_containers_end()
        if not self._is_stopping:
            _log.error("sandbox %s has ended: %s", self._pod.identity.sandbox_id, machine.cause)
        self._end(0 if self._is_stopping else EXIT_KILLED)

    def _end(self, status: int) -> None:
        if self._exit is None:
            self._stage = Stage.STOPPED
            self._exit = ExitInfo(self._pod.vm_pid, status, time.time_ns())
            self._ended.set()

    async def update(self, resources: bytes | None, annotations: Mapping[str, str]) -> None:
        """Give the pod other limits and annotations; a VM that runs follows at once."""
        self._require()
        limits = oci.decode(resources, oci.Resources, "resources of the sandbox") if resources is not None else None
        await detached(self._pod.group, partial(self._update, limits, dict(annotations)))

    async def _update(self, resources: oci.Resources | None, annotations: Mapping[str, str]) -> None:
        async with self._moving:
            before, is_up = self._pod.own_spec, self._stage is Stage.READY
            if before is None or self._stage is Stage.STOPPED or (is_up and self._pod.is_lost):
                raise FailedPreconditionError(f"cannot update sandbox {self._pod.identity.sandbox_id}: it has ended")
            spec = self._pod.own_spec = updated_spec(before, resources, annotations, is_up)
            try:
                # Whether it makes sense is told by the plan that a start would have.
                self._plan(self._require())
                if is_up:
                    limits = requested(spec, ContainerKind.SANDBOX)
                    await self._pod.require_machine().sizer.resize_pod(limits)
            except BaseException:
                self._pod.own_spec = before
                raise

    async def stop(self, grace: float) -> None:
        """End the containers and the VM, in one piece even if the caller goes."""
        self._require()
        await detached(self._pod.group, partial(self._stop, grace))

    async def _stop(self, grace: float) -> None:
        if self._stage is Stage.STOPPED:
            return
        self._asked_to_end()
        await self._end_creations()
        async with self._moving:
            machine = self._pod.machine
            if machine is None:
                self._end(0)
                return
            if grace > 0 and not machine.lost.is_set():
                await self._terminate_containers(grace)
            await machine.close()
        await self._ended.wait()

    async def _terminate_containers(self, grace: float) -> None:
        """SIGTERM to every container, and time to follow it."""
        running = [item for item in self._pod.containers.values() if item.init.is_running]
        with anyio.move_on_after(grace):
            async with anyio.create_task_group() as group:
                for container in running:
                    group.start_soon(self._terminate, container)

    async def _terminate(self, container: Container) -> None:
        try:
            await signals.kill(self._pod, container.init, SIGTERM)
        except SandboxError as error:
            _log.info("SIGTERM to container %s: %s", container.id, error)
        await container.init.wait()

    async def give_up(self) -> None:
        """The shim ends, and with it the pod: whatever comes was asked for. Returns when nothing is being booted."""
        self._asked_to_end()
        async with self._moving:
            return

    def _asked_to_end(self) -> None:
        self._is_stopping = self._is_stopping or self._pod.machine is None or not self._pod.is_lost
        if self._start_scope is not None:
            self._start_scope.cancel()

    def ended(self) -> None:
        """Nothing of the pod is left: whoever waits is told."""
        if self.exists:
            self._end(0)

    async def wait(self) -> ExitInfo:
        """The pod's end."""
        self._require()
        await self._ended.wait()
        if self._exit is None:
            raise SandboxError("the sandbox ended without an exit status")
        return self._exit

    def status(self) -> SandboxStatus:
        """The pod now."""
        request = self._require()
        return SandboxStatus(
            sandbox_id=request.sandbox_id,
            pid=self._pod.vm_pid,
            is_ready=self._stage is Stage.READY and not self._pod.is_lost,
            created_at_ns=self._created_at_ns,
            exited_at_ns=self._exit.exited_at_ns if self._exit else 0,
            spec=msgspec.json.encode(self._pod.own_spec),
            info=self._info(request),
        )

    def as_process(self) -> ProcessState:
        """The pod as if it were a task: containerd lists all that a shim was started for as tasks."""
        status = self.status()
        words = {Stage.CREATED: ProcessStatus.CREATED, Stage.READY: ProcessStatus.RUNNING}
        return ProcessState(
            container_id=status.sandbox_id,
            exec_id="",
            bundle=self._require().bundle,
            pid=status.pid,
            status=words.get(self._stage, ProcessStatus.STOPPED),
            io=StdioUris(),
            exit_status=self._exit.exit_status if self._exit else 0,
            exited_at_ns=status.exited_at_ns,
        )

    def _info(self, request: SandboxRequest) -> dict[str, str]:
        pod = self._pod
        facts = {
            "stage": str(self._stage),
            "bundle": str(request.bundle),
            "netns": request.netns_path,
            "containers": " ".join(sorted(pod.containers)),
        }
        if machine := pod.machine:
            vm = machine.plan.vm
            facts |= {"accelerator": vm.accelerator, "vcpus": str(vm.vcpus), "memory_mib": str(vm.memory_mib)}
            facts |= {"cause": machine.cause}
        return {key: value for key, value in facts.items() if value}

    async def stats(self) -> Any:
        """The sum over the containers; those that the guest does not tell in time are left out."""
        self._require()
        if self._stage is not Stage.READY:
            raise FailedPreconditionError(f"sandbox {self._pod.identity.sandbox_id} is {self._stage}")
        agent = self._pod.require_machine().agent
        parts: list[Any] = []

        async def ask(container: Container) -> None:
            try:
                parts.append(await agent.stats_container(container.id, timeout=STATS_TIMEOUT))
            except AgentError as error:
                _log.debug("statistics of container %s: %s", container.id, error)

        async with anyio.create_task_group() as group:
            for container in self._pod.containers.values():
                if container.init.is_running:
                    group.start_soon(ask, container)
        return pod_stats.total(parts)

    def _require(self) -> SandboxRequest:
        if self._request is None:
            raise NotFoundError(f"sandbox {self._pod.identity.sandbox_id}: not found (nobody created it)")
        return self._request
