"""`Delete`: an ended process is forgotten; with an init go its execs, its part of the guest and what the host held."""

from __future__ import annotations

import anyio

from sandbox import signals, starts
from sandbox.container import Container, Exec
from sandbox.errors import NotFoundError
from sandbox.interface import ExitInfo
from sandbox.pod_state import PodState
from sandbox.process import Process
from sandbox.runner import EXIT_KILLED


async def delete(pod: PodState, container: Container, process: Process) -> ExitInfo:
    """Forget `process`, or the whole container if it is its init; what was never started ends as if it were killed.

    The answer for an exec that was never started is status 0, as runc's: nothing has run.
    Raises `FailedPreconditionError` for a process that runs, `NotFoundError` for one that another call has forgotten,
    once that is done.
    """
    async with process.deleting:
        async with process.moving:
            state = process.state.deleted()
        ran = process.has_ended or not isinstance(process, Exec)
        if not process.has_ended:
            await _end_unstarted(pod, process)
        process.state = state
        await process.close()
        if isinstance(process, Exec):
            container.execs.pop(process.exec_id, None)
        else:
            await _forget(pod, container)
        return process.exit if ran and process.exit else ExitInfo(pod.vm_pid, 0, 0)


async def _end_unstarted(pod: PodState, process: Process) -> None:
    """Release whoever waits for it; of an exec that was never started the guest knows nothing."""
    if not isinstance(process, Exec):
        await _kill_created(pod, process)
    process.exited(pod.vm_pid, EXIT_KILLED, pod.publish)


async def _kill_created(pod: PodState, process: Process) -> None:
    with anyio.move_on_after(signals.END_TIMEOUT):
        try:
            await signals.kill(pod, process, signals.SIGKILL)
        except NotFoundError:
            pass
        await process.wait()


async def _forget(pod: PodState, container: Container) -> None:
    for item in list(container.execs.values()):
        await item.close()
    if container.id != pod.root_id and pod.machine:
        await starts.remove_container(pod.machine, container.id)
    try:
        await container.held.aclose()
    finally:
        # Nobody could ask for the rest again: what could not be given back must not keep the pod for ever.
        pod.containers.pop(container.id, None)
        end = container.init.exit or ExitInfo(pod.vm_pid, 0, 0)
        pod.publish(starts.delete_event(container.id, end))
