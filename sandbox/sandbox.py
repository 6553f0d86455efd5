"""The pod as the task service sees it: containers by id, and the one VM they share.

Rules kept here: every change is made whole or rolled back, in the pod's own task group, whoever still listens; what is
asked about state is answered from memory; the end of the VM ends every process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import anyio

import config
from protos.gen.containerd import events as events_pb
from sandbox import deletion, oci, signals, starts
from sandbox.container import Container, Exec
from sandbox.creation import Creation
from sandbox.detached import detached
from sandbox.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from sandbox.exits import Exits
from sandbox.guest_errors import guest_errors
from sandbox.guest_processes import GuestProcesses
from sandbox.guest_spec import guest_resources
from sandbox.hooks import ContainerHooks
from sandbox.interface import (
    CreateRequest,
    ExecRequest,
    ExitInfo,
    OpenStdio,
    ProcessInfo,
    ProcessState,
    Publish,
    SandboxIdentity,
)
from sandbox.life import Life
from sandbox.lifecycle import Created
from sandbox.machine import MakeMachine, make_machine
from sandbox.pod_state import PodState
from sandbox.process import Process
from sandbox.resources.hierarchies import HostCgroups, of_this_host

#: Statistics are asked for often and must be quick, in seconds (containerd's own limit is 2 s).
STATS_TIMEOUT = 1.8


class Sandbox:
    """One pod, from the daemon's start to its end; implements `sandbox.interface.Pod`.

    An async context manager: inside it the pod's task group runs; leaving it tears down what is left.
    """

    def __init__(
        self,
        identity: SandboxIdentity,
        *,
        open_stdio: OpenStdio,
        publish: Publish,
        load_config: Callable[..., config.Config] = config.load,
        make_machine: MakeMachine = make_machine,
        find_cgroups: Callable[[], HostCgroups] = of_this_host,
    ) -> None:
        self.pod = PodState(identity, open_stdio, publish, load_config, make_machine, find_cgroups)
        self._creations: dict[str, Creation] = {}
        self._exits = Exits(self.pod)
        self._processes = GuestProcesses()
        self._closing = anyio.Lock()
        self.life = Life(self.pod, self._cancel_creations)

    async def __aenter__(self) -> Sandbox:
        self.pod.open_directory()
        await self.pod.group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            await self.shutdown()
        self.pod.group.cancel_scope.cancel()
        return await self.pod.group.__aexit__(kind, error, trace)

    @property
    def is_empty(self) -> bool:
        return not self.pod.containers and not self._creations and not self.life.exists

    # What is asked, from memory

    def state(self, container_id: str, exec_id: str) -> ProcessState:
        if self._is_own(container_id) and not exec_id:
            return self.life.as_process()
        return self.pod.process(container_id, exec_id).snapshot(self.pod.vm_pid)

    def _is_own(self, container_id: str) -> bool:
        """Whether this is a pod of the Sandbox API by its own id: containerd asks of it as of a task."""
        is_pods = container_id == self.pod.identity.sandbox_id and container_id not in self.pod.containers
        return is_pods and self.life.exists

    async def pids(self, container_id: str) -> list[ProcessInfo]:
        vm = ProcessInfo(self.pod.vm_pid)
        if self._is_own(container_id):
            return [vm]
        container, machine = self.pod.container(container_id), self.pod.machine
        if machine is None or self.pod.is_lost or container.init.has_ended:
            return [vm]
        if listed := await self._processes.listed(machine.agent, container):
            return [vm, *listed]
        return [vm, *(ProcessInfo(vm.pid, item.exec_id) for item in container.execs.values() if item.is_running)]

    def task_pid(self, container_id: str) -> int:
        return self.pod.vm_pid

    async def wait(self, container_id: str, exec_id: str) -> ExitInfo:
        return await self.pod.process(container_id, exec_id).wait()

    # What is done

    async def create(self, request: CreateRequest, timeout: float | None) -> int:
        container_id = request.container_id
        if container_id in self.pod.containers or container_id in self._creations:
            raise AlreadyExistsError(f"container {container_id} already exists")
        creation = Creation(self.pod, request, timeout)
        self._creations[container_id] = creation
        return await detached(self.pod.group, partial(self._create, creation))

    async def _create(self, creation: Creation) -> int:
        try:
            container = await creation.run()
        finally:
            self._creations.pop(creation.container_id, None)
        self.pod.containers[container.id] = container
        self.pod.publish(creation.event(self.pod.vm_pid))
        self.pod.group.start_soon(self._exits.follow, container, container.init)
        return self.pod.vm_pid

    async def exec(self, request: ExecRequest) -> None:
        container = self.pod.container(request.container_id)
        process = oci.decode(request.process, oci.Process, f"process of exec {request.exec_id}")
        oci.check_process(process, f"process of exec {request.exec_id}")
        container.add_exec(Exec(request, starts.guest_exec_id(), container.bundle, process))
        self.pod.publish(events_pb.TaskExecAdded(container_id=container.id, exec_id=request.exec_id))

    async def start(self, container_id: str, exec_id: str) -> int:
        container = self.pod.container(container_id)
        process = container.process(exec_id)
        return await detached(self.pod.group, partial(self._start, container, process))

    async def _start(self, container: Container, process: Process) -> int:
        agent = self.pod.require_machine().agent
        async with process.moving:
            process.state.started()
            if isinstance(process, Exec):
                container.init.state.check_exec()
                await starts.start_exec(agent, process, self.pod.open_stdio)
            else:
                await starts.start_init(agent, process)
            process.started(self.pod.vm_pid, self.pod.publish)
        if isinstance(process, Exec):
            self.pod.group.start_soon(self._exits.follow, container, process)
        else:
            await ContainerHooks(container, self.pod.directory.path).after_start(self.pod.vm_pid)
        return self.pod.vm_pid

    async def kill(self, container_id: str, exec_id: str, signal: int, everyone: bool) -> None:
        await signals.kill(self.pod, self.pod.process(container_id, exec_id), signal)

    async def delete(self, container_id: str, exec_id: str) -> ExitInfo:
        if creation := self._creations.get(container_id):
            await creation.cancel()
        container = self.pod.container(container_id)
        process = container.process(exec_id)
        return await detached(self.pod.group, partial(deletion.delete, self.pod, container, process))

    async def pause(self, container_id: str) -> None:
        await detached(self.pod.group, partial(self._pause, self.pod.container(container_id).init))

    async def _pause(self, process: Process) -> None:
        async with process.moving:
            state = process.state.paused()
            with guest_errors(f"pause {process.state.what}"):
                await self.pod.require_machine().agent.pause_container(process.container_id)
            process.state = state if not process.has_ended else process.state
        self.pod.publish(events_pb.TaskPaused(container_id=process.container_id))

    async def resume(self, container_id: str) -> None:
        await detached(self.pod.group, partial(self._resume, self.pod.container(container_id).init))

    async def _resume(self, process: Process) -> None:
        async with process.moving:
            state = process.state.resumed()
            with guest_errors(f"resume {process.state.what}"):
                await self.pod.require_machine().agent.resume_container(process.container_id)
            process.state = state if not process.has_ended else process.state
        self.pod.publish(events_pb.TaskResumed(container_id=process.container_id))

    async def resize_pty(self, container_id: str, exec_id: str, width: int, height: int) -> None:
        process = self.pod.process(container_id, exec_id)
        if isinstance(process, Exec) and isinstance(process.state, Created):
            process.size = (width, height)
            return
        if not process.io.terminal or process.has_ended:
            return
        with guest_errors(f"resize the terminal of {process.state.what}"):
            await self.pod.require_machine().agent.tty_win_resize(container_id, process.guest_exec_id, height, width)

    async def close_io(self, container_id: str, exec_id: str) -> None:
        process = self.pod.process(container_id, exec_id)
        if process.stdio is not None:
            process.stdio.close_stdin()
        process.stdin_closed = True

    async def update(self, container_id: str, resources: bytes) -> None:
        container = self.pod.container(container_id)
        limits = oci.decode(resources, oci.Resources, f"resources of container {container_id}")
        if container.init.has_ended:
            raise FailedPreconditionError(f"cannot update container {container_id}: it is stopped")
        await detached(self.pod.group, partial(self._update, container_id, limits))

    async def _update(self, container_id: str, limits: oci.Resources) -> None:
        machine = self.pod.require_machine()
        async with machine.sizer.updating(container_id, limits):
            with guest_errors(f"update container {container_id}"):
                await machine.agent.update_container(container_id, guest_resources(limits))

    async def stats(self, container_id: str) -> Any:
        container = self.pod.container(container_id)
        if not container.init.has_ended:
            with guest_errors(f"statistics of container {container_id}"):
                return await self.pod.require_machine().agent.stats_container(container_id, timeout=STATS_TIMEOUT)
        if container.last_stats is None:
            raise NotFoundError(f"container {container_id} has stopped, and left no statistics")
        return container.last_stats

    # The end

    async def shutdown(self) -> None:
        async with self._closing:
            await self.life.give_up()
            await self._cancel_creations()
            if self.pod.machine is not None:
                await self.pod.machine.close()
                await self.pod.see_containers_end()
            for container in list(self.pod.containers.values()):
                await container.held.aclose()
            self.life.ended()
            self.pod.leave_cgroup()
            self.pod.directory.close()

    async def _cancel_creations(self) -> None:
        for creation in list(self._creations.values()):
            await creation.cancel()
