"""A pod without a VM: keeps the contract of `sandbox.interface.Pod`, with processes that are coroutines.

What a process does is its first argument, as in a tiny shell without paths: `sleep` runs until it is killed, `echo ...`
writes its arguments, `cat` copies its input to its output, `exit N` ends with N; anything else is not found (127).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio

from protos.gen.containerd import events
from protos.gen.grpc import CgroupStats, CpuStats, CpuUsage, StatsContainerResponse
from protos.timestamps import from_ns
from sandbox.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from sandbox.interface import (
    CreateRequest,
    ExecRequest,
    ExitInfo,
    OpenStdio,
    ProcessInfo,
    ProcessState,
    ProcessStatus,
    Publish,
    SandboxIdentity,
    Stdio,
    StdioUris,
)
from tests.fakes.life import VM_PID, FakeLife

__all__ = ["VM_PID", "FakePod"]


class FakeProcess:
    """A process of the fake pod; `exited` is set when it has ended and its streams are closed."""

    def __init__(self, container_id: str, exec_id: str, bundle: Path, args: list[str], io: StdioUris) -> None:
        self.container_id = container_id
        self.exec_id = exec_id
        self.bundle = bundle
        self.args = args
        self.io = io
        self.status = ProcessStatus.CREATED
        self.stdio: Stdio | None = None
        self.end = ExitInfo(VM_PID, 0, 0)
        self.exited = anyio.Event()
        self.scope = anyio.CancelScope()
        self.signal = 0

    async def run(self) -> int:
        """What the process does; returns its exit status, also after a signal."""
        with self.scope:
            return await self._program()
        return 128 + self.signal

    async def _program(self) -> int:
        assert self.stdio is not None
        match self.args:
            case ["sleep", *_]:
                await anyio.sleep_forever()
            case ["echo", *words]:
                await self.stdio.write_stdout((" ".join(words) + "\n").encode())
            case ["cat"]:
                while data := await self.stdio.read_stdin(65536):
                    await self.stdio.write_stdout(data)
            case ["exit", status]:
                return int(status)
            case _:
                await self.stdio.write_stderr(f"{self.args}: not found\n".encode())
                return 127
        return 0


class FakePod:
    """See the module. `fail_next_create`, `create_gate` and `on_create` let a test decide how a `create` goes."""

    def __init__(self, identity: SandboxIdentity, *, open_stdio: OpenStdio, publish: Publish) -> None:
        self.identity = identity
        self.processes: dict[tuple[str, str], FakeProcess] = {}
        self.calls: list[str] = []
        self.create_timeout: float | None = None
        self.fail_next_create: Exception | None = None
        self.on_create: Callable[[CreateRequest], None] | None = None
        self.create_gate = anyio.Event()
        self.create_gate.set()
        self.was_shut_down = False
        self.last_request: CreateRequest | ExecRequest | None = None
        self.last_kill: tuple[int, bool] | None = None
        self.last_resources = b""
        self.size = (0, 0)
        self._creating = 0
        self.life = FakeLife(identity)
        self._open_stdio = open_stdio
        self._publish = publish
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> FakePod:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(kind, error, trace)

    @property
    def is_empty(self) -> bool:
        return not self.processes and not self._creating and not self.life.exists

    async def create(self, request: CreateRequest, timeout: float | None) -> int:
        self.create_timeout = timeout
        self.last_request = request
        if (request.container_id, "") in self.processes:
            raise AlreadyExistsError(f"container {request.container_id} already exists")
        outcome = _Outcome()
        self._group.start_soon(self._create, request, outcome)
        return await outcome.wait()

    async def _create(self, request: CreateRequest, outcome: _Outcome) -> None:
        self._creating += 1
        try:
            await self.create_gate.wait()
            if self.fail_next_create is not None:
                error, self.fail_next_create = self.fail_next_create, None
                raise error
            args = _args_of(request.bundle)
            process = FakeProcess(request.container_id, "", request.bundle, args, request.io)
            process.stdio = await self._open_stdio(request.container_id, request.io)
            self.processes[request.container_id, ""] = process
            self._publish(events.TaskCreate(container_id=request.container_id, bundle=str(request.bundle), pid=VM_PID))
            outcome.set(VM_PID)
        except Exception as error:
            outcome.fail(error)
        finally:
            self._creating -= 1

    async def start(self, container_id: str, exec_id: str) -> int:
        process = self._process(container_id, exec_id)
        if process.status is not ProcessStatus.CREATED:
            raise FailedPreconditionError(f"cannot start a {process.status.name.lower()} process")
        if exec_id:
            process.stdio = await self._open_stdio(container_id, process.io)
            self._publish(events.TaskExecStarted(container_id=container_id, exec_id=exec_id, pid=VM_PID))
        else:
            self._publish(events.TaskStart(container_id=container_id, pid=VM_PID))
        process.status = ProcessStatus.RUNNING
        self._group.start_soon(self._run, process)
        return VM_PID

    async def _run(self, process: FakeProcess) -> None:
        await self._end(process, await process.run())

    async def _end(self, process: FakeProcess, status: int) -> None:
        with anyio.CancelScope(shield=True):
            if process.stdio is not None:
                await process.stdio.aclose()
        process.end = ExitInfo(VM_PID, status, time.time_ns())
        process.status = ProcessStatus.STOPPED
        self._publish(
            events.TaskExit(
                container_id=process.container_id,
                id=process.exec_id or process.container_id,
                pid=VM_PID,
                exit_status=status,
                exited_at=from_ns(process.end.exited_at_ns),
            )
        )
        process.exited.set()

    async def exec(self, request: ExecRequest) -> None:
        self.last_request = request
        container = self._process(request.container_id, "")
        if (request.container_id, request.exec_id) in self.processes:
            raise AlreadyExistsError(f"id {request.exec_id}")
        if container.status is not ProcessStatus.RUNNING:
            raise FailedPreconditionError(f"container {request.container_id} is not running")
        try:
            args = json.loads(request.process)["args"]
        except (ValueError, KeyError) as error:
            raise InvalidArgumentError(f"process of exec {request.exec_id}: {error}") from error
        process = FakeProcess(request.container_id, request.exec_id, container.bundle, args, request.io)
        self.processes[request.container_id, request.exec_id] = process
        self._publish(events.TaskExecAdded(container_id=request.container_id, exec_id=request.exec_id))

    async def kill(self, container_id: str, exec_id: str, signal: int, everyone: bool) -> None:
        process = self._process(container_id, exec_id)
        self.last_kill = (signal, everyone)
        if process.status is ProcessStatus.STOPPED:
            raise NotFoundError("process already finished: not found")
        process.signal = signal
        if process.status is ProcessStatus.CREATED:
            await self._end(process, 128 + signal)
        process.scope.cancel()

    async def delete(self, container_id: str, exec_id: str) -> ExitInfo:
        process = self._process(container_id, exec_id)
        if process.status in (ProcessStatus.RUNNING, ProcessStatus.PAUSED):
            raise FailedPreconditionError("cannot delete a running process")
        if process.stdio is not None:
            await process.stdio.aclose()
        del self.processes[container_id, exec_id]
        if not exec_id:
            self._publish(
                events.TaskDelete(
                    container_id=container_id,
                    pid=VM_PID,
                    exit_status=process.end.exit_status,
                    exited_at=from_ns(process.end.exited_at_ns),
                )
            )
        return process.end

    async def wait(self, container_id: str, exec_id: str) -> ExitInfo:
        process = self._process(container_id, exec_id)
        await process.exited.wait()
        return process.end

    def state(self, container_id: str, exec_id: str) -> ProcessState:
        process = self._process(container_id, exec_id)
        return ProcessState(
            container_id=container_id,
            exec_id=exec_id,
            bundle=process.bundle,
            pid=VM_PID,
            status=process.status,
            io=process.io,
            exit_status=process.end.exit_status,
            exited_at_ns=process.end.exited_at_ns,
        )

    async def pids(self, container_id: str) -> list[ProcessInfo]:
        if self.life.exists and container_id == self.identity.sandbox_id:
            return [ProcessInfo(VM_PID)]
        self._process(container_id, "")
        return [ProcessInfo(VM_PID, exec_id) for cid, exec_id in self.processes if cid == container_id]

    def task_pid(self, container_id: str) -> int:
        return VM_PID if self.processes else 0

    async def pause(self, container_id: str) -> None:
        self._process(container_id, "").status = ProcessStatus.PAUSED
        self._publish(events.TaskPaused(container_id=container_id))

    async def resume(self, container_id: str) -> None:
        self._process(container_id, "").status = ProcessStatus.RUNNING
        self._publish(events.TaskResumed(container_id=container_id))

    async def resize_pty(self, container_id: str, exec_id: str, width: int, height: int) -> None:
        self._process(container_id, exec_id)
        self.size = (width, height)

    async def close_io(self, container_id: str, exec_id: str) -> None:
        process = self._process(container_id, exec_id)
        if process.stdio is not None:
            process.stdio.close_stdin()

    async def update(self, container_id: str, resources: bytes) -> None:
        self._process(container_id, "")
        self.last_resources = resources

    async def stats(self, container_id: str) -> Any:
        self._process(container_id, "")
        usage = CpuUsage(total_usage=7_000_000)
        return StatsContainerResponse(cgroup_stats=CgroupStats(cpu_stats=CpuStats(cpu_usage=usage)))

    async def shutdown(self) -> None:
        for process in list(self.processes.values()):
            if process.status is not ProcessStatus.STOPPED:
                process.signal = 9
                process.scope.cancel()
                if process.status is ProcessStatus.RUNNING:
                    await process.exited.wait()
        self.was_shut_down = True
        self.life.end(0)

    def _process(self, container_id: str, exec_id: str) -> FakeProcess:
        try:
            return self.processes[container_id, exec_id]
        except KeyError:
            raise NotFoundError(f"{exec_id or container_id}: not found") from None


class _Outcome:
    """What a `create` came to, for a caller who may be gone when it does."""

    def __init__(self) -> None:
        self._done = anyio.Event()
        self._pid = 0
        self._error: Exception | None = None

    def set(self, pid: int) -> None:
        self._pid = pid
        self._done.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._done.set()

    async def wait(self) -> int:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._pid


def _args_of(bundle: Path) -> list[str]:
    try:
        args = json.loads((bundle / "config.json").read_text())["process"]["args"]
    except (OSError, ValueError, KeyError) as error:
        raise InvalidArgumentError(f"{bundle}/config.json: {error}") from error
    return list(args)
