"""The Task service: containerd's requests, carried to the pod.

Versions 2 and 3 have the same messages, so one service answers both (`containerd.task.v2.Task`,
`containerd.task.v3.Task`). Nothing is decided here but how containerd's words become the pod's; what must answer at
once (`State`, `Connect`) is answered from memory.
"""

from __future__ import annotations

import os

import anyio
from grpclib.const import Handler

from protos.gen.containerd.task import v2
from protos.gen.wellknown import Empty
from sandbox.errors import SandboxError, UnimplementedError
from sandbox.interface import Pod
from shim import translate
from shim.guard import guarded, time_for_work
from shim.lifetime import Lifetime
from shim.metrics import host
from shim.version import TASK_VERSION

#: Seconds that `Shutdown` waits for the pod's end before it answers; containerd waits 3 s.
SHUTDOWN_TIMEOUT = 2.0

_V2 = "/containerd.task.v2.Task/"
_V3 = "/containerd.task.v3.Task/"


class TaskService(v2.TaskBase):
    """Serves one pod; `lifetime` is told when it is wanted, and ends when containerd says `Shutdown`."""

    def __init__(self, pod: Pod, lifetime: Lifetime) -> None:
        self._pod = pod
        self._lifetime = lifetime

    def __mapping__(self) -> dict[str, Handler]:
        """Every method under both versions' names."""
        handlers = {route: guarded(route, handler) for route, handler in super().__mapping__().items()}
        return handlers | {route.replace(_V2, _V3): handler for route, handler in handlers.items()}

    async def create(self, message: v2.CreateTaskRequest) -> v2.CreateTaskResponse:
        """Make a container; the first one makes the pod."""
        self._lifetime.touch()
        try:
            pid = await self._pod.create(translate.create_request(message), time_for_work())
        finally:
            self._lifetime.touch()
        return v2.CreateTaskResponse(pid=pid)

    async def start(self, message: v2.StartRequest) -> v2.StartResponse:
        """Run a container's init process, or an exec."""
        return v2.StartResponse(pid=await self._pod.start(message.id, message.exec_id))

    async def exec(self, message: v2.ExecProcessRequest) -> Empty:
        """Register a further process."""
        await self._pod.exec(translate.exec_request(message))
        return Empty()

    async def state(self, message: v2.StateRequest) -> v2.StateResponse:
        """A process as it is now."""
        return translate.state_response(self._pod.state(message.id, message.exec_id))

    async def wait(self, message: v2.WaitRequest) -> v2.WaitResponse:
        """A process' exit, when there is one."""
        return translate.wait_response(await self._pod.wait(message.id, message.exec_id))

    async def kill(self, message: v2.KillRequest) -> Empty:
        """Send a signal."""
        await self._pod.kill(message.id, message.exec_id, translate.signal_number(message), message.all)
        return Empty()

    async def delete(self, message: v2.DeleteRequest) -> v2.DeleteResponse:
        """Forget a stopped process."""
        try:
            return translate.delete_response(await self._pod.delete(message.id, message.exec_id))
        finally:
            self._lifetime.touch()

    async def pids(self, message: v2.PidsRequest) -> v2.PidsResponse:
        """A container's processes: the VM, and those of the guest by numbers that no process of the host has."""
        return translate.pids_response(await self._pod.pids(message.id))

    async def pause(self, message: v2.PauseRequest) -> Empty:
        """Freeze a container."""
        await self._pod.pause(message.id)
        return Empty()

    async def resume(self, message: v2.ResumeRequest) -> Empty:
        """Thaw a container."""
        await self._pod.resume(message.id)
        return Empty()

    async def resize_pty(self, message: v2.ResizePtyRequest) -> Empty:
        """Set the size of a terminal."""
        await self._pod.resize_pty(message.id, message.exec_id, message.width, message.height)
        return Empty()

    async def close_io(self, message: v2.CloseIoRequest) -> Empty:
        """End a process' input, if that is what is asked."""
        self._pod.state(message.id, message.exec_id)
        if message.stdin:
            await self._pod.close_io(message.id, message.exec_id)
        return Empty()

    async def update(self, message: v2.UpdateTaskRequest) -> Empty:
        """Change a container's resources."""
        await self._pod.update(message.id, translate.resources(message))
        return Empty()

    async def stats(self, message: v2.StatsRequest) -> v2.StatsResponse:
        """A container's statistics, in the message for this host."""
        stats = await self._pod.stats(message.id)
        return v2.StatsResponse(stats=host.packed(stats, host.host_is_unified()))

    async def connect(self, message: v2.ConnectRequest) -> v2.ConnectResponse:
        """Who serves the task. Never an error: containerd would take the pod for dead."""
        try:
            pid = self._pod.task_pid(message.id)
        except SandboxError:
            pid = 0
        return v2.ConnectResponse(shim_pid=os.getpid(), task_pid=pid, version=str(TASK_VERSION))

    async def checkpoint(self, message: v2.CheckpointTaskRequest) -> Empty:
        """A VM's containers can't be checkpointed."""
        raise UnimplementedError("checkpoint is not supported")

    async def shutdown(self, message: v2.ShutdownRequest) -> Empty:
        """End the daemon if no container is left; containerd asks after each container's deletion.

        The pod is torn down before the answer: after it containerd closes the connection and runs `delete`, which kills
        whoever is not done yet.
        """
        if self._pod.is_empty:
            self._lifetime.end("Shutdown")
            with anyio.move_on_after(SHUTDOWN_TIMEOUT):
                await self._lifetime.finished.wait()
        return Empty()
