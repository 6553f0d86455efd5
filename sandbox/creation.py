"""One `Create` from request to container: in one piece, with a deadline, cancellable, and undone whole when it fails.

The first container of a pod brings the VM up. All steps are named phases, which the log and the error tell. What a
step makes on the host for the container is registered with `Container.held`, and given back in reverse order.
"""

from __future__ import annotations

import logging
import os

import anyio

from protos.gen.containerd import events as events_pb
from protos.gen.containerd import types as types_pb
from sandbox import boot, oci, pod_namespaces, podspec, starts
from sandbox.annotations import AnnotationError, ContainerKind, container_kind
from sandbox.container import Container
from sandbox.errors import (
    AlreadyExistsError,
    DeadlineError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
    UnimplementedError,
)
from sandbox.guest_errors import creation_errors, guest_errors
from sandbox.guest_spec import guest_spec
from sandbox.hooks import ContainerHooks
from sandbox.interface import CreateRequest, Mount, Stdio
from sandbox.machine import Machine
from sandbox.phases import Phases
from sandbox.pod_state import PodState
from sandbox.sizing import limits_of
from sandbox.storage.container import GuestFiles

_log = logging.getLogger(__name__)


class Creation:
    """A `Create` under way."""

    def __init__(self, pod: PodState, request: CreateRequest, timeout: float | None) -> None:
        self._pod = pod
        self._request = request
        self._timeout = timeout
        self._phases = Phases()
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._stdio: Stdio | None = None
        self._asked_guest = False
        self.container_id = request.container_id

    async def run(self) -> Container:
        """Make the container; raises `SandboxError`, `DeadlineError` with the phase when the time is over."""
        try:
            with self._scope:
                if self._timeout is not None:
                    self._scope.deadline = anyio.current_time() + self._timeout
                return await self._make()
        finally:
            self._done.set()
        if self._scope.deadline <= anyio.current_time():
            raise DeadlineError(
                f"container {self.container_id} was not created within {self._timeout:.1f} s: it was in phase "
                f"{self._phases.current} ({self._phases}); everything is undone"
            )
        raise UnavailableError(f"the creation of container {self.container_id} was cancelled; everything is undone")

    async def cancel(self) -> None:
        """Give up, and return when everything is undone, or too late to be."""
        self._scope.cancel()
        await self._done.wait()

    async def _make(self) -> Container:
        if self._request.checkpoint:
            raise UnimplementedError("restoring a container from a checkpoint is not supported")
        with self._phases.phase("spec"):
            spec = oci.load_spec(self._request.bundle)
            kind = _kind(spec, self._pod.identity.sandbox_id)
            pod_namespaces.check_pod(spec, kind)
            if self._pod.own_spec is not None:
                podspec.check_member(self._pod.identity.sandbox_id, self.container_id, kind)
                spec, kind = podspec.member_spec(self._pod.own_spec, spec, self._pod.pod_files), ContainerKind.CONTAINER
        container = Container(self.container_id, self._request.bundle, spec, self._request.io)
        is_root = False
        try:
            async with self._pod.booting:
                is_root = await self._ensure_machine(container, kind)
            if not is_root:
                await self._run_hooks(container)
            await self._add_container(container, kind)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._undo(container, is_root)
            raise
        fields = {"container": container.id, **self._phases.fields()}
        _log.info("container created", extra={"fields": fields})
        return container

    async def _ensure_machine(self, container: Container, kind: ContainerKind) -> bool:
        """Boot the pod's VM if this is its first container, after its hooks; return whether it is."""
        pod = self._pod
        if pod.machine is not None:
            if kind is not ContainerKind.CONTAINER:
                raise AlreadyExistsError(f"sandbox {pod.identity.sandbox_id} already has a container of its own")
            return False
        if kind is ContainerKind.CONTAINER:
            raise FailedPreconditionError(f"sandbox {pod.identity.sandbox_id} is not running")
        with self._phases.phase("config"):
            plan = boot.make_plan(pod, container.spec, kind, self._request.config_path, self._request.config_body)
        await self._run_hooks(container)
        await boot.bring_up(pod, plan, self._phases)
        pod.root_id = self.container_id
        return True

    async def _run_hooks(self, container: Container) -> None:
        if container.spec.hooks is not None:
            with self._phases.phase("hooks"):
                await ContainerHooks(container, self._pod.directory.path).before_create(self._pod.vm_pid or os.getpid())

    async def _add_container(self, container: Container, kind: ContainerKind) -> None:
        machine = self._pod.require_machine()
        with self._phases.phase("rootfs"), guest_errors(f"share the files of container {container.id}"):
            files = await machine.storage.prepare(
                machine.agent.storage,
                container.id,
                container.spec,
                self._request.rootfs,
                container.bundle,
                container.held,
            )
        with self._phases.phase("streams"):
            container.init.stdio = self._stdio = await self._pod.open_stdio(container.id, self._request.io)
        if kind is not ContainerKind.SANDBOX:
            with self._phases.phase("resources"):
                container.held.callback(machine.sizer.release, container.id)
                await machine.sizer.admit(container.id, limits_of(container.spec.linux.resources or oci.Resources()))
        with self._phases.phase("container"), creation_errors(container.id):
            await self._create_in_guest(machine, container, kind, files)

    async def _create_in_guest(
        self, machine: Machine, container: Container, kind: ContainerKind, files: GuestFiles
    ) -> None:
        plan = machine.plan
        message = guest_spec(
            container.id,
            files.spec,
            files.mounts,
            kind=kind,
            bundle=container.bundle,
            root=files.root,
            seccomp=plan.seccomp,
            dropped_namespaces=plan.dropped_namespaces,
        )
        agent = machine.agent
        self._asked_guest = True
        await agent.create_container(
            container_id=container.id,
            exec_id=container.id,
            oci=message,
            storages=files.storages,
            devices=files.devices,
            sandbox_pidns=self._shares_processes(container.spec, kind),
            timeout=plan.create_timeout,
        )

    def _shares_processes(self, spec: oci.Spec, kind: ContainerKind) -> bool:
        others = [other.spec for other in self._pod.containers.values() if other.id != self._pod.root_id]
        return pod_namespaces.shares_processes(spec, kind, others)

    async def _undo(self, container: Container, is_root: bool) -> None:
        if self._stdio:
            await self._stdio.aclose()
        machine = self._pod.machine
        if machine is not None and is_root:
            self._pod.machine = None
            await machine.close()
        elif machine is not None and self._asked_guest:
            # A call that was given up or lost may have made it.
            await starts.remove_container(machine, container.id, starts.UNDO_TIMEOUT)
        await container.held.aclose()

    def event(self, pid: int) -> events_pb.TaskCreate:
        """The event that tells of the container."""
        request = self._request
        return events_pb.TaskCreate(
            container_id=self.container_id,
            bundle=str(request.bundle),
            rootfs=[_mount_message(item) for item in request.rootfs],
            io=events_pb.TaskIo(
                stdin=request.io.stdin,
                stdout=request.io.stdout,
                stderr=request.io.stderr,
                terminal=request.io.terminal,
            ),
            checkpoint=request.checkpoint,
            pid=pid,
        )


def _kind(spec: oci.Spec, sandbox_id: str) -> ContainerKind:
    try:
        kind, pod = container_kind(spec.annotations)
    except AnnotationError as error:
        raise InvalidArgumentError(str(error)) from error
    if kind is ContainerKind.CONTAINER and pod != sandbox_id:
        raise InvalidArgumentError(f"the container belongs to sandbox {pod}, and this is {sandbox_id}")
    return kind


def _mount_message(item: Mount) -> types_pb.Mount:
    return types_pb.Mount(type=item.type, source=item.source, target=item.target, options=list(item.options))
