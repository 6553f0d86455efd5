"""`Delete`: an ended process is forgotten; with an init go its execs, its part of the guest and what the host held."""

from __future__ import annotations

import anyio

from sandbox import signals, starts
from sandbox.container import Container, Exec
from sandbox.errors import NotFoundError
from sandbox.interface import ExitInfo
from sandbox.pod_state import PodState
from sandbox.process import Process


async def delete(pod: PodState, container: Container, process: Process) -> ExitInfo:
    """Forget `process`, or the whole container if it is its init; a container that was never started is killed first.

    Raises `FailedPreconditionError` for a process that runs.
    """
    async with process.moving:
        state = process.state.deleted()
    if not process.has_ended and not isinstance(process, Exec):
        await _kill_created(pod, process)
    process.state = state
    await process.close()
    if isinstance(process, Exec):
        container.execs.pop(process.exec_id, None)
    else:
        await _forget(pod, container)
    return process.exit or ExitInfo(pod.vm_pid, 0, 0)


async def _kill_created(pod: PodState, process: Process) -> None:
    with anyio.move_on_after(signals.END_TIMEOUT):
        try:
            await signals.kill(pod, process, signals.SIGKILL)
        except NotFoundError:
            pass
        await process.wait()
    process.exited(pod.vm_pid, 128 + signals.SIGKILL, pod.publish)


async def _forget(pod: PodState, container: Container) -> None:
    for item in list(container.execs.values()):
        await item.close()
    if container.id != pod.root_id and pod.machine:
        await starts.remove_container(pod.machine, container.id)
    await container.held.aclose()
    pod.containers.pop(container.id, None)
    end = container.init.exit or ExitInfo(pod.vm_pid, 0, 0)
    pod.publish(starts.delete_event(container.id, end))
