"""The pod as the task service sees it: containers by id, and the one VM they share.

Rules kept here: every change is made whole or rolled back, in the pod's own task group, whoever still listens; what is
asked about state is answered from memory; the end of the VM ends every process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import anyio
from grpclib.const import Status

import config
from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.streams import repeated
from protos.gen.containerd import events as events_pb
from sandbox import oci, starts
from sandbox.container import Container, Exec
from sandbox.creation import Creation
from sandbox.detached import detached
from sandbox.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError, UnavailableError
from sandbox.exits import Exits
from sandbox.guest_errors import guest_errors
from sandbox.guest_processes import GuestProcesses
from sandbox.guest_spec import guest_resources
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
from sandbox.lifecycle import Created
from sandbox.machine import Machine, MakeMachine, make_machine
from sandbox.process import Process
from sandbox.rundir import RunDirectory, run_dir_for

SIGKILL = 9
#: How long the guest may take for a signal, in seconds; a guest that hangs is killed with its pod.
KILL_TIMEOUT = 5.0
#: How long a killed process may take to be seen ended, in seconds; containerd gives Delete 5 s.
DELETE_TIMEOUT = 4.0
#: Statistics are asked for often and must be quick, in seconds (containerd's own limit is 2 s).
STATS_TIMEOUT = 1.8

_log = logging.getLogger(__name__)


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
    ) -> None:
        self.identity = identity
        self.publish = publish
        self.open_stdio = open_stdio
        self.load_config = load_config
        self.make_machine = make_machine
        self.containers: dict[str, Container] = {}
        self.machine: Machine | None = None
        #: The container whose end is the pod's end: the pod's own, or the only one.
        self.root_id: str | None = None
        self._creations: dict[str, Creation] = {}
        self._exits = Exits(self)
        self._processes = GuestProcesses()
        #: Held while the VM is brought up.
        self.booting = anyio.Lock()
        self._closing = anyio.Lock()
        self._group = anyio.create_task_group()
        self._directory: RunDirectory | None = None

    async def __aenter__(self) -> Sandbox:
        facts = {
            "sandbox_id": self.identity.sandbox_id,
            "namespace": self.identity.namespace,
            "socket": str(self.identity.socket_path),
        }
        path = run_dir_for(self.identity.containerd_address, self.identity.namespace, self.identity.sandbox_id)
        self._directory = RunDirectory.create(path, facts)
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            await self.shutdown()
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(kind, error, trace)

    @property
    def directory(self) -> RunDirectory:
        """The run directory; there is one inside the context."""
        if self._directory is None:
            raise UnavailableError("the sandbox is not open")
        return self._directory

    @property
    def group(self) -> anyio.abc.TaskGroup:
        """Where everything that lives as long as the pod runs."""
        return self._group

    @property
    def is_empty(self) -> bool:
        return not self.containers and not self._creations

    def _container(self, container_id: str) -> Container:
        try:
            return self.containers[container_id]
        except KeyError:
            raise NotFoundError(f"container {container_id}: not found") from None

    def _process(self, container_id: str, exec_id: str) -> Process:
        return self._container(container_id).process(exec_id)

    def require_machine(self) -> Machine:
        """The VM with its helpers; raises `UnavailableError` when there is none."""
        if self.machine is None:
            raise UnavailableError("the sandbox has no VM")
        return self.machine

    def adopt(self, machine: Machine, root_id: str) -> None:
        """The VM is up, for the sake of container `root_id`: watch over it from now on."""
        self.machine = machine
        self.root_id = root_id
        self._group.start_soon(machine.watch)
        self._group.start_soon(machine.share.serve, machine.agent.storage)
        self._group.start_soon(self._exits.watch_oom)

    @property
    def vm_pid(self) -> int:
        """Pid that stands for every task of the pod: that of its VM."""
        return self.machine.pid if self.machine else 0

    # What is asked, from memory

    def state(self, container_id: str, exec_id: str) -> ProcessState:
        return self._process(container_id, exec_id).snapshot(self.vm_pid)

    async def pids(self, container_id: str) -> list[ProcessInfo]:
        container = self._container(container_id)
        vm = ProcessInfo(self.vm_pid)
        machine = self.machine
        if machine is None or machine.lost.is_set() or container.init.has_ended:
            return [vm]
        if listed := await self._processes.listed(machine.agent, container):
            return [vm, *listed]
        return [vm, *(ProcessInfo(vm.pid, item.exec_id) for item in container.execs.values() if item.is_running)]

    def task_pid(self, container_id: str) -> int:
        return self.vm_pid

    async def wait(self, container_id: str, exec_id: str) -> ExitInfo:
        return await self._process(container_id, exec_id).wait()

    # What is done

    async def create(self, request: CreateRequest, timeout: float | None) -> int:
        container_id = request.container_id
        if container_id in self.containers or container_id in self._creations:
            raise AlreadyExistsError(f"container {container_id} already exists")
        creation = Creation(self, request, timeout)
        self._creations[container_id] = creation
        return await detached(self._group, partial(self._create, creation))

    async def _create(self, creation: Creation) -> int:
        try:
            container = await creation.run()
        finally:
            self._creations.pop(creation.container_id, None)
        self.containers[container.id] = container
        self.publish(creation.event(self.vm_pid))
        self.group.start_soon(self._exits.follow, container, container.init)
        return self.vm_pid

    async def exec(self, request: ExecRequest) -> None:
        container = self._container(request.container_id)
        process = oci.decode(request.process, oci.Process, f"process of exec {request.exec_id}")
        oci.check_process(process, f"process of exec {request.exec_id}")
        container.add_exec(Exec(request, starts.guest_exec_id(), container.bundle, process))
        self.publish(events_pb.TaskExecAdded(container_id=container.id, exec_id=request.exec_id))

    async def start(self, container_id: str, exec_id: str) -> int:
        container = self._container(container_id)
        process = container.process(exec_id)
        return await detached(self._group, partial(self._start, container, process))

    async def _start(self, container: Container, process: Process) -> int:
        agent = self.require_machine().agent
        async with process.moving:
            process.state.started()
            if isinstance(process, Exec):
                container.init.state.check_exec()
                await starts.start_exec(agent, process, self.open_stdio)
            else:
                await starts.start_init(agent, process)
            process.started(self.vm_pid, self.publish)
        if isinstance(process, Exec):
            self.group.start_soon(self._exits.follow, container, process)
        return self.vm_pid

    async def kill(self, container_id: str, exec_id: str, signal: int, everyone: bool) -> None:
        process = self._process(container_id, exec_id)
        process.state.check_signal()
        if isinstance(process, Exec) and isinstance(process.state, Created):
            raise FailedPreconditionError("process not created")
        machine = self.require_machine()
        try:
            await self._signal(machine.agent, process, signal)
        except AgentError as error:
            await self._signal_failed(process, signal, machine, error)
        except UnavailableError as error:
            raise NotFoundError("process already finished") from error

    async def _signal(self, agent: AgentClient, process: Process, signal: int) -> None:
        """Have the guest send a signal; what kills may be sent twice, so a lost connection is no reason to give up."""

        async def send() -> None:
            await agent.signal_process(process.container_id, process.guest_exec_id, signal, timeout=KILL_TIMEOUT)

        await (repeated(agent, send) if signal == SIGKILL else send())

    async def _signal_failed(self, process: Process, signal: int, machine: Machine, error: AgentError) -> None:
        if error.lost and not machine.lost.is_set() and await machine.agent.restored():
            raise UnavailableError(f"signal {signal} to {process.state.what} may not have arrived: {error}") from error
        if error.lost or error.code is Status.NOT_FOUND:
            with anyio.move_on_after(DELETE_TIMEOUT):
                await process.wait()
            raise NotFoundError("process already finished") from error
        if error.code is Status.DEADLINE_EXCEEDED and signal == SIGKILL:
            _log.error("the guest did not answer for %.0f s, killing its VM", KILL_TIMEOUT)
            machine.vm.kill()
            return
        with guest_errors(f"signal {signal} to {process.state.what}"):
            raise error

    async def delete(self, container_id: str, exec_id: str) -> ExitInfo:
        if creation := self._creations.get(container_id):
            await creation.cancel()
        container = self._container(container_id)
        return await detached(self._group, partial(self._delete, container, container.process(exec_id)))

    async def _delete(self, container: Container, process: Process) -> ExitInfo:
        async with process.moving:
            state = process.state.deleted()
        if not process.has_ended and not isinstance(process, Exec):
            await self._kill_created(process)
        process.state = state
        await process.close()
        if isinstance(process, Exec):
            container.execs.pop(process.exec_id, None)
        else:
            await self._forget(container)
        return process.exit or ExitInfo(self.vm_pid, 0, 0)

    async def _kill_created(self, process: Process) -> None:
        with anyio.move_on_after(DELETE_TIMEOUT):
            try:
                await self.kill(process.container_id, "", SIGKILL, everyone=True)
            except NotFoundError:
                pass
            await process.wait()
        process.exited(self.vm_pid, 128 + SIGKILL, self.publish)

    async def _forget(self, container: Container) -> None:
        for item in list(container.execs.values()):
            await item.close()
        if container.id != self.root_id and self.machine:
            await starts.remove_container(self.machine, container.id)
        self.containers.pop(container.id, None)
        end = container.init.exit or ExitInfo(self.vm_pid, 0, 0)
        self.publish(starts.delete_event(container.id, end))

    async def pause(self, container_id: str) -> None:
        process = self._container(container_id).init
        async with process.moving:
            state = process.state.paused()
            with guest_errors(f"pause container {container_id}"):
                await self.require_machine().agent.pause_container(container_id)
            process.state = state if not process.has_ended else process.state
        self.publish(events_pb.TaskPaused(container_id=container_id))

    async def resume(self, container_id: str) -> None:
        process = self._container(container_id).init
        async with process.moving:
            state = process.state.resumed()
            with guest_errors(f"resume container {container_id}"):
                await self.require_machine().agent.resume_container(container_id)
            process.state = state if not process.has_ended else process.state
        self.publish(events_pb.TaskResumed(container_id=container_id))

    async def resize_pty(self, container_id: str, exec_id: str, width: int, height: int) -> None:
        process = self._process(container_id, exec_id)
        if isinstance(process, Exec) and isinstance(process.state, Created):
            process.size = (width, height)
            return
        if not process.io.terminal or process.has_ended:
            return
        with guest_errors(f"resize the terminal of {process.state.what}"):
            await self.require_machine().agent.tty_win_resize(container_id, process.guest_exec_id, height, width)

    async def close_io(self, container_id: str, exec_id: str) -> None:
        process = self._process(container_id, exec_id)
        if process.stdio is not None:
            process.stdio.close_stdin()
        process.stdin_closed = True

    async def update(self, container_id: str, resources: bytes) -> None:
        container = self._container(container_id)
        limits = oci.decode(resources, oci.Resources, f"resources of container {container_id}")
        if container.init.has_ended:
            raise FailedPreconditionError(f"cannot update container {container_id}: it is stopped")
        with guest_errors(f"update container {container_id}"):
            await self.require_machine().agent.update_container(container_id, guest_resources(limits))

    async def stats(self, container_id: str) -> Any:
        container = self._container(container_id)
        if not container.init.has_ended:
            with guest_errors(f"statistics of container {container_id}"):
                return await self.require_machine().agent.stats_container(container_id, timeout=STATS_TIMEOUT)
        if container.last_stats is None:
            raise NotFoundError(f"container {container_id} has stopped, and left no statistics")
        return container.last_stats

    # The end

    async def shutdown(self) -> None:
        async with self._closing:
            for creation in list(self._creations.values()):
                await creation.cancel()
            if self.machine is not None:
                await self.machine.close()
            self.directory.close()
