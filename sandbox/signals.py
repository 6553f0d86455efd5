"""`Kill`: a signal for a process of the guest, and what it means when the guest does not take it."""

from __future__ import annotations

import logging

import anyio
from grpclib.const import Status

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.streams import repeated
from sandbox.container import Exec
from sandbox.errors import FailedPreconditionError, NotFoundError, UnavailableError
from sandbox.guest_errors import guest_errors
from sandbox.lifecycle import Created
from sandbox.machine import Machine
from sandbox.pod_state import PodState
from sandbox.process import Process

SIGKILL = 9
#: How long the guest may take for a signal, in seconds; a guest that hangs is killed with its pod.
KILL_TIMEOUT = 5.0
#: How long a killed process may take to be seen ended, in seconds; containerd gives Delete 5 s.
END_TIMEOUT = 4.0

_log = logging.getLogger(__name__)


async def kill(pod: PodState, process: Process, signal: int) -> None:
    """Have the guest send `signal`.

    Raises `NotFoundError` for a process that has ended, `FailedPreconditionError` for an exec that was not started,
    `UnavailableError` when the signal may be lost. A guest that takes no SIGKILL is killed itself.
    """
    process.state.check_signal()
    if isinstance(process, Exec) and isinstance(process.state, Created):
        raise FailedPreconditionError("process not created")
    machine = pod.require_machine()
    try:
        await _send(machine.agent, process, signal)
    except AgentError as error:
        await _failed(process, signal, machine, error)
    except UnavailableError as error:
        raise NotFoundError("process already finished") from error


async def _send(agent: AgentClient, process: Process, signal: int) -> None:
    """What kills may be sent twice, so a lost connection is no reason to give up.

    The init goes by the name that it was created with: without a name a signal is for every process of the container,
    as a SIGKILL is to be, and with Kata 3 every other signal too.
    """
    init = "" if signal == SIGKILL else process.container_id

    async def send() -> None:
        await agent.signal_process(process.container_id, process.guest_exec_id or init, signal, timeout=KILL_TIMEOUT)

    await (repeated(agent, send) if signal == SIGKILL else send())


async def _failed(process: Process, signal: int, machine: Machine, error: AgentError) -> None:
    if error.lost and not machine.lost.is_set() and await machine.agent.restored():
        raise UnavailableError(f"signal {signal} to {process.state.what} may not have arrived: {error}") from error
    if error.lost or error.code is Status.NOT_FOUND:
        with anyio.move_on_after(END_TIMEOUT):
            await process.wait()
        raise NotFoundError("process already finished") from error
    if error.code is Status.DEADLINE_EXCEEDED and signal == SIGKILL:
        _log.error("the guest did not answer for %.0f s, killing its VM", KILL_TIMEOUT)
        machine.vm.kill()
        return
    with guest_errors(f"signal {signal} to {process.state.what}"):
        raise error
