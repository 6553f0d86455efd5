"""The Sandbox service (`containerd.runtime.sandbox.v1.Sandbox`): the pod as a thing of its own, before any container.

containerd 2.x calls it for runtimes with `sandboxer = "shim"`, in this order: CreateSandbox, StartSandbox, then
WaitSandbox, which it leaves open for the pod's whole life; SandboxStatus and Platform for each container; StopSandbox
and ShutdownSandbox at the end, the latter also after a CreateSandbox or StartSandbox that failed. It is served beside
the Task service, on the same socket, since a pod's containers are tasks.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import anyio
from grpclib.const import Handler

from protos import anys, timestamps
from protos.gen.containerd import types
from protos.gen.containerd.runtime.sandbox import v1
from protos.gen.wellknown import Any
from sandbox.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, SandboxError
from sandbox.interface import Pod, SandboxStatus
from shim import pod_config
from shim.guard import guarded, time_for_work
from shim.lifetime import Lifetime
from shim.metrics import host
from shim.task import SHUTDOWN_TIMEOUT
from shim.translate import checked_id

#: What CRI reads in `SandboxStatus.state`.
READY, NOT_READY = "SANDBOX_READY", "SANDBOX_NOTREADY"

# The machine's name, where Go has another one (GOARCH).
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class SandboxService(v1.SandboxBase):
    """Serves the sandbox `sandbox_id`, which is the pod's id: a shim has one."""

    def __init__(self, pod: Pod, lifetime: Lifetime, sandbox_id: str) -> None:
        self._pod = pod
        self._lifetime = lifetime
        self._sandbox_id = sandbox_id

    def __mapping__(self) -> dict[str, Handler]:
        """Every method, with its errors translated."""
        return {route: guarded(route, handler) for route, handler in super().__mapping__().items()}

    async def create_sandbox(self, message: v1.CreateSandboxRequest) -> v1.CreateSandboxResponse:
        """Check and keep what the sandbox is to be."""
        self._lifetime.touch()
        checked_id("sandbox", message.sandbox_id)
        if not Path(message.bundle_path).is_absolute():
            raise InvalidArgumentError(f"bundle {message.bundle_path!r} is not an absolute path")
        try:
            await self._pod.life.create(pod_config.sandbox_request(message))
        finally:
            self._lifetime.touch()
        self._lifetime.await_start()
        return v1.CreateSandboxResponse()

    async def start_sandbox(self, message: v1.StartSandboxRequest) -> v1.StartSandboxResponse:
        """Boot the VM."""
        self._check_id(message.sandbox_id)
        try:
            status = await self._pod.life.start(time_for_work())
        except SandboxError:
            self._await_start()
            raise
        return v1.StartSandboxResponse(
            pid=status.pid,
            created_at=timestamps.from_ns(status.created_at_ns),
            # containerd 2.3 takes the pod's cgroup from it, and without it complains at each look at the pod.
            spec=Any(type_url=anys.SPEC_URL, value=status.spec),
        )

    async def platform(self, message: v1.PlatformRequest) -> v1.PlatformResponse:
        """What the containers run on: a VM of this machine's kind."""
        self._check_id(message.sandbox_id)
        machine = os.uname().machine
        return v1.PlatformResponse(
            platform=types.Platform(os="linux", architecture=_GO_ARCHITECTURES.get(machine, machine))
        )

    async def stop_sandbox(self, message: v1.StopSandboxRequest) -> v1.StopSandboxResponse:
        """End the containers, within the time that is given them, and the VM; the shim stays, to be asked."""
        self._check_id(message.sandbox_id)
        left = time_for_work()
        grace = float(message.timeout_secs)
        await self._pod.life.stop(grace if left is None else min(grace, left))
        return v1.StopSandboxResponse()

    async def wait_sandbox(self, message: v1.WaitSandboxRequest) -> v1.WaitSandboxResponse:
        """The sandbox' end, when there is one."""
        self._check_id(message.sandbox_id)
        end = await self._pod.life.wait()
        return v1.WaitSandboxResponse(exit_status=end.exit_status, exited_at=timestamps.from_ns(end.exited_at_ns))

    async def sandbox_status(self, message: v1.SandboxStatusRequest) -> v1.SandboxStatusResponse:
        """The sandbox as it is now, from memory."""
        self._check_id(message.sandbox_id)
        return _status_response(self._pod.life.status(), message.verbose)

    async def ping_sandbox(self, message: v1.PingRequest) -> v1.PingResponse:
        """Whether the sandbox is there; NotFound if it never was."""
        self._check_id(message.sandbox_id)
        self._pod.life.status()
        return v1.PingResponse()

    async def shutdown_sandbox(self, message: v1.ShutdownSandboxRequest) -> v1.ShutdownSandboxResponse:
        """End the sandbox, whatever is left of it, and the shim; also where a sandbox could not be created."""
        self._check_id(message.sandbox_id)
        if not self._pod.is_empty and not self._pod.life.exists:
            raise FailedPreconditionError(f"sandbox {self._sandbox_id} was made by its first container, and has some")
        self._lifetime.end("ShutdownSandbox")
        with anyio.move_on_after(SHUTDOWN_TIMEOUT):
            await self._lifetime.finished.wait()
        return v1.ShutdownSandboxResponse()

    async def update_sandbox(self, message: v1.UpdateSandboxRequest) -> v1.UpdateSandboxResponse:
        """What the containers may use together, and annotations, from now on."""
        self._check_id(message.sandbox_id)
        from shim import pod_update

        await self._pod.life.update(pod_update.resources(message), message.annotations)
        return v1.UpdateSandboxResponse()

    async def sandbox_metrics(self, message: v1.SandboxMetricsRequest) -> v1.SandboxMetricsResponse:
        """The sum of the containers' statistics, in the message for this host."""
        self._check_id(message.sandbox_id)
        stats = await self._pod.life.stats()
        return v1.SandboxMetricsResponse(
            metrics=types.Metric(
                timestamp=timestamps.from_ns(time.time_ns()),
                id=self._sandbox_id,
                data=host.packed(stats, host.host_is_unified()),
            )
        )

    def _check_id(self, sandbox_id: str) -> None:
        if sandbox_id != self._sandbox_id:
            raise NotFoundError(f"sandbox {sandbox_id[:80]!r}: not found (this is the shim of {self._sandbox_id})")
        self._await_start()

    def _await_start(self) -> None:
        """Whoever asks for a sandbox that was never up may still start it."""
        if self._pod.life.is_waiting:
            self._lifetime.await_start()


def _status_response(status: SandboxStatus, verbose: bool) -> v1.SandboxStatusResponse:
    return v1.SandboxStatusResponse(
        sandbox_id=status.sandbox_id,
        pid=status.pid,
        state=READY if status.is_ready else NOT_READY,
        info=dict(status.info) if verbose else {},
        created_at=timestamps.from_ns(status.created_at_ns),
        exited_at=timestamps.from_ns(status.exited_at_ns) if status.exited_at_ns else None,
    )
