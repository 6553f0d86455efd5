"""One process of a container, its init or an exec: its state, its streams, and its exit, announced exactly once."""

from __future__ import annotations

import time
from pathlib import Path

import anyio

from protos import timestamps
from protos.gen.containerd import events as events_pb
from sandbox.errors import SandboxError
from sandbox.interface import ExitInfo, ProcessState, Publish, Stdio, StdioUris
from sandbox.lifecycle import Created, State


class Process:
    """From `Create` or `Exec` to `Delete`. `guest_exec_id` is its name in the agent protocol (empty for init)."""

    def __init__(self, container_id: str, exec_id: str, guest_exec_id: str, bundle: Path, io: StdioUris) -> None:
        self.container_id = container_id
        self.exec_id = exec_id
        self.guest_exec_id = guest_exec_id
        self.bundle = bundle
        self.io = io
        self.stdio: Stdio | None = None
        #: `CloseIO` may come before the streams are open.
        self.stdin_closed = False
        #: Serialises moves that wait for the guest, and orders the start event before the exit event.
        self.moving = anyio.Lock()
        #: Held while it is forgotten.
        self.deleting = anyio.Lock()
        self.exit: ExitInfo | None = None
        #: Stops the streams and the waiter.
        self.scope = anyio.CancelScope()
        self._ended = anyio.Event()
        what = f"exec {exec_id} of container {container_id}" if exec_id else f"container {container_id}"
        self.state: State = Created(what)
        self._started = anyio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether the exit is known."""
        return self.exit is not None

    @property
    def is_running(self) -> bool:
        """Whether the guest runs it, or would if it were not frozen."""
        return self._started.is_set() and not self.has_ended

    def started(self, pid: int, publish: Publish) -> None:
        """The guest runs it: move on, and say so before any exit can be told."""
        self.state = self.state.started()
        self._started.set()
        if self.exec_id:
            publish(events_pb.TaskExecStarted(container_id=self.container_id, exec_id=self.exec_id, pid=pid))
        else:
            publish(events_pb.TaskStart(container_id=self.container_id, pid=pid))

    def exited(self, pid: int, exit_status: int, publish: Publish) -> None:
        """It has ended: keep the first exit, publish the event, release every waiter. Later calls change nothing.

        An exec that never ran has no start event, so it has no exit event either.
        """
        if self.exit is not None:
            return
        self.exit = ExitInfo(pid, exit_status, time.time_ns())
        self.state = self.state.exited()
        if self._started.is_set() or not self.exec_id:
            publish(self._exit_event(self.exit))
        self._ended.set()

    def failed(self, exit_status: int) -> None:
        """It could not be run: that is its end, known to whoever waits, but no event, since none told of a start."""
        if self.exit is None:
            self.exit = ExitInfo(0, exit_status, time.time_ns())
            self.state = self.state.exited()
            self._ended.set()

    def _exit_event(self, end: ExitInfo) -> events_pb.TaskExit:
        return events_pb.TaskExit(
            container_id=self.container_id,
            id=self.exec_id or self.container_id,
            pid=end.pid,
            exit_status=end.exit_status,
            exited_at=timestamps.from_ns(end.exited_at_ns),
        )

    async def wait_started(self) -> None:
        """Return once the guest runs it."""
        await self._started.wait()

    async def settled(self) -> None:
        """Return once it does not run, nor is being started."""
        async with self.moving:
            runs = self.is_running
        if runs:
            await self.wait()

    async def wait(self) -> ExitInfo:
        """The exit, as soon as there is one."""
        await self._ended.wait()
        if self.exit is None:
            raise SandboxError(f"{self.state.what} ended without an exit status")
        return self.exit

    def snapshot(self, pid: int) -> ProcessState:
        """What `State` answers now."""
        return ProcessState(
            container_id=self.container_id,
            exec_id=self.exec_id,
            bundle=self.bundle,
            pid=pid,
            status=self.state.status,
            io=self.io,
            exit_status=self.exit.exit_status if self.exit else 0,
            exited_at_ns=self.exit.exited_at_ns if self.exit else 0,
        )

    async def close(self) -> None:
        """Stop its tasks and close its streams; idempotent."""
        self.scope.cancel()
        if self.stdio is not None:
            await self.stdio.aclose()
