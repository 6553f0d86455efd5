"""The Sandbox API's side of the fake pod: a VM that boots when it is told to, and ends when it is told to or killed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import anyio

from protos.gen.grpc import CgroupStats, CpuStats, CpuUsage, StatsContainerResponse
from sandbox.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from sandbox.interface import ExitInfo, SandboxIdentity, SandboxRequest, SandboxStatus

#: Pid that the fake VM claims.
VM_PID = 4242


class FakeLife:
    """Keeps the contract of `sandbox.interface.PodLife`; a test may have the next step fail, and kill the VM."""

    def __init__(self, identity: SandboxIdentity) -> None:
        self._identity = identity
        self.request: SandboxRequest | None = None
        self.start_timeout: float | None = None
        self.grace: float | None = None
        self.fail_next: Exception | None = None
        #: What the last update has brought.
        self.resources: bytes | None = None
        self.annotations: dict[str, str] = {}
        self._created_at_ns = 0
        self._is_running = self._was_up = False
        self._exit: ExitInfo | None = None
        self._ended = anyio.Event()

    @property
    def exists(self) -> bool:
        return self.request is not None

    @property
    def is_waiting(self) -> bool:
        return self.exists and not self._was_up

    async def create(self, request: SandboxRequest) -> None:
        if self.request is not None:
            raise AlreadyExistsError(f"sandbox {request.sandbox_id} already exists")
        self._fail()
        self.request = request
        self._created_at_ns = time.time_ns()

    async def start(self, timeout: float | None) -> SandboxStatus:
        status = self.status()
        if self._is_running or self._exit:
            raise FailedPreconditionError(f"cannot start sandbox {status.sandbox_id}")
        self.start_timeout = timeout
        self._fail()
        self._is_running = self._was_up = True
        return self.status()

    async def update(self, resources: bytes | None, annotations: Mapping[str, str]) -> None:
        self.status()
        if self._exit:
            raise FailedPreconditionError("cannot update the sandbox: it has ended")
        self._fail()
        self.resources = resources
        self.annotations = dict(annotations)

    async def stop(self, grace: float) -> None:
        self.status()
        self.grace = grace
        self.end(0)

    async def wait(self) -> ExitInfo:
        self.status()
        await self._ended.wait()
        assert self._exit is not None
        return self._exit

    def status(self) -> SandboxStatus:
        if self.request is None:
            raise NotFoundError(f"sandbox {self._identity.sandbox_id}: not found")
        return SandboxStatus(
            sandbox_id=self.request.sandbox_id,
            pid=VM_PID if self._is_running or self._exit else 0,
            is_ready=self._is_running,
            created_at_ns=self._created_at_ns,
            exited_at_ns=self._exit.exited_at_ns if self._exit else 0,
            info={"stage": "ready" if self._is_running else "not ready"},
        )

    async def stats(self) -> Any:
        self.status()
        usage = CpuUsage(total_usage=9_000_000)
        return StatsContainerResponse(cgroup_stats=CgroupStats(cpu_stats=CpuStats(cpu_usage=usage)))

    def end(self, status: int) -> None:
        """End the VM: 0 in order, 137 when a test kills it."""
        self._is_running = False
        if self._exit is None:
            self._exit = ExitInfo(VM_PID, status, time.time_ns())
            self._ended.set()

    def _fail(self) -> None:
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
