"""One `Create` from request to container: in one piece, with a deadline, cancellable, and undone whole when it fails.

The first container of a pod brings the VM up. All steps are named phases, which the log and the error tell.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from config import Config, ConfigError
from hypervisor import vsock
from hypervisor.accelerator import resolve
from hypervisor.errors import HypervisorError
from protos.gen.containerd import events as events_pb
from protos.gen.containerd import types as types_pb
from sandbox import oci, starts
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
from sandbox.interface import CreateRequest, Mount, Stdio
from sandbox.phases import Phases
from sandbox.plan import Host, SandboxPlan, host_size, plan_sandbox
from sandbox.volumes import plan_volumes

if TYPE_CHECKING:
    from sandbox.sandbox import Sandbox

_log = logging.getLogger(__name__)


class Creation:
    """A `Create` under way."""

    def __init__(self, sandbox: Sandbox, request: CreateRequest, timeout: float | None) -> None:
        self._sandbox = sandbox
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
            kind = _kind(spec, self._sandbox.identity.sandbox_id)
        async with self._sandbox.booting:
            is_root = await self._ensure_machine(spec, kind)
        try:
            container = await self._add_container(spec, kind)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._undo(is_root)
            raise
        self._tell("container created", container=container.id)
        return container

    async def _ensure_machine(self, spec: oci.Spec, kind: ContainerKind) -> bool:
        """Boot the pod's VM if this is its first container; return whether it is."""
        sandbox = self._sandbox
        if sandbox.machine is not None:
            if kind is not ContainerKind.CONTAINER:
                raise AlreadyExistsError(f"sandbox {sandbox.identity.sandbox_id} already has a container of its own")
            return False
        if kind is ContainerKind.CONTAINER:
            raise FailedPreconditionError(f"sandbox {sandbox.identity.sandbox_id} is not running")
        with self._phases.phase("config"):
            plan = self._plan(spec, kind)
        machine = sandbox.make_machine(plan, sandbox.directory)
        await machine.boot(self._phases)
        sandbox.adopt(machine, self.container_id)
        self._tell(
            "sandbox started",
            sandbox=sandbox.identity.sandbox_id,
            kind="cold",
            accelerator=plan.vm.accelerator,
        )
        return True

    def _plan(self, spec: oci.Spec, kind: ContainerKind) -> SandboxPlan:
        try:
            settings = self._load_config()
            host = Host(host_size(), resolve(settings.hypervisor.accelerator), vsock.available())
            return plan_sandbox(
                settings, spec, kind, self._sandbox.identity.sandbox_id, self._sandbox.directory.path, host
            )
        except (ConfigError, AnnotationError, HypervisorError) as error:
            raise InvalidArgumentError(str(error)) from error

    def _load_config(self) -> Config:
        settings = self._sandbox.load_config(self._request.config_path or self._sandbox.identity.config_path)
        for warning in settings.ignored:
            _log.warning("configuration: %s", warning)
        return settings

    async def _add_container(self, spec: oci.Spec, kind: ContainerKind) -> Container:
        sandbox, machine = self._sandbox, self._sandbox.require_machine()
        container = Container(self.container_id, self._request.bundle, spec, self._request.io)
        volumes = plan_volumes(container.id, spec.mounts)
        message = guest_spec(
            container.id,
            spec,
            volumes.mounts,
            seccomp=machine.plan.seccomp,
            dropped_namespaces=machine.plan.dropped_namespaces,
        )
        with self._phases.phase("rootfs"), guest_errors(f"share the files of container {container.id}"):
            root, files = Path(os.path.join(self._request.bundle, spec.root.path)), machine.agent.storage
            await machine.share.add_rootfs(files, container.id, self._request.rootfs, root)
            await machine.share.add(files, container.id, volumes.entries)
        with self._phases.phase("streams"):
            container.init.stdio = self._stdio = await sandbox.open_stdio(container.id, self._request.io)
        with self._phases.phase("container"), creation_errors(container.id):
            self._asked_guest = True
            await machine.agent.create_container(
                container_id=container.id,
                exec_id=container.id,
                oci=message,
                storages=machine.share.storages(container.id),
                sandbox_pidns=_shares_pid_namespace(spec, kind),
                timeout=machine.plan.create_timeout,
            )
        return container

    async def _undo(self, is_root: bool) -> None:
        if self._stdio:
            await self._stdio.aclose()
        machine = self._sandbox.machine
        if machine is None:
            return
        if is_root:
            self._sandbox.machine = None
            await machine.close()
        elif self._asked_guest:
            # A call that was given up or lost may have made it.
            await starts.remove_container(machine, self.container_id, starts.UNDO_TIMEOUT)
        else:
            machine.share.remove(self.container_id)

    def _tell(self, message: str, **fields: object) -> None:
        fields |= {"total": f"{self._phases.total:.3f}s", "phases": str(self._phases)}
        _log.info(message, extra={"fields": fields})

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


def _shares_pid_namespace(spec: oci.Spec, kind: ContainerKind) -> bool:
    """A pod's own container begins the namespace that those with a path to one join (shareProcessNamespace)."""
    return kind is ContainerKind.SANDBOX or any(item.type == "pid" and item.path for item in spec.linux.namespaces)


def _mount_message(item: Mount) -> types_pb.Mount:
    return types_pb.Mount(type=item.type, source=item.source, target=item.target, options=list(item.options))
