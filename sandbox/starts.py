"""The guest's side of start and removal: one call, its failure as the exit it means."""

from __future__ import annotations

import logging
import os
import signal

import anyio

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.streams import repeated
from protos import timestamps
from protos.gen import grpc as agent_pb
from protos.gen.containerd import events as events_pb
from sandbox.container import Exec
from sandbox.errors import UnavailableError
from sandbox.guest_errors import EXIT_UNKNOWN, start_failure
from sandbox.guest_spec import guest_process
from sandbox.interface import ExitInfo, OpenStdio
from sandbox.machine import Machine
from sandbox.process import Process

#: How long the guest may take to remove a stopped container, in seconds; containerd gives Delete 5 s.
REMOVE_TIMEOUT = 4
#: How long it may take for a container that was not made after all, and a signal to what was not started, in seconds.
UNDO_TIMEOUT = 1
ABANDON_TIMEOUT = 1.0

_log = logging.getLogger(__name__)


def guest_exec_id() -> str:
    """A name for an exec in the guest: fresh, as Kata's are, so no client's id is mistaken for a container's."""
    return os.urandom(16).hex()


async def start_init(agent: AgentClient, process: Process) -> None:
    """Run the container's init. On failure it counts as ended, and the error says why."""
    try:
        await agent.start_container(process.container_id)
    except AgentError as error:
        await _abandon(agent, process, error)
        _fail(process, error)


async def start_exec(agent: AgentClient, process: Exec, open_stdio: OpenStdio) -> None:
    """Open the exec's streams and run it. On failure the streams are closed and it counts as ended."""
    try:
        process.stdio = await open_stdio(process.container_id, process.io)
    except Exception:
        process.failed(EXIT_UNKNOWN)
        raise
    if process.stdin_closed:
        process.stdio.close_stdin()
    try:
        await agent.exec_process(
            container_id=process.container_id, exec_id=process.guest_exec_id, process=_guest_exec(process)
        )
    except AgentError as error:
        with anyio.CancelScope(shield=True):
            await process.stdio.aclose()
        await _abandon(agent, process, error)
        _fail(process, error)


def _guest_exec(process: Exec) -> agent_pb.Process:
    message = guest_process(process.spec)
    message.terminal = process.io.terminal
    if process.size:
        width, height = process.size
        message.console_size = agent_pb.Box(height=height, width=width)
    return message


async def _abandon(agent: AgentClient, process: Process, error: AgentError) -> None:
    """A start whose answer was lost counts as failed, so what it may have started must not run."""
    if not error.lost or not await agent.restored():
        return
    try:
        await agent.signal_process(process.container_id, process.guest_exec_id, signal.SIGKILL, timeout=ABANDON_TIMEOUT)
    except AgentError as problem:
        _log.info("%s, whose start was lost: %s", process.state.what, problem)


def _fail(process: Process, error: AgentError) -> None:
    status, problem = start_failure(error)
    process.failed(status)
    raise problem from error


async def remove_container(machine: Machine, container_id: str, timeout: int | None = None) -> None:
    """Remove a container from the guest, within `timeout` seconds; a guest that is gone has removed it.

    A removal whose answer was lost is asked for again: then NOT_FOUND is the answer.
    """

    async def remove() -> None:
        await agent.remove_container(container_id, limit, timeout=limit)

    limit = timeout or REMOVE_TIMEOUT
    try:
        agent = machine.agent
        with anyio.move_on_after(limit):
            await repeated(agent, remove)
    except (AgentError, UnavailableError) as error:
        _log.info("remove container %s in the guest: %s", container_id, error)


def delete_event(container_id: str, end: ExitInfo) -> events_pb.TaskDelete:
    """The event for a deleted container."""
    return events_pb.TaskDelete(
        container_id=container_id,
        pid=end.pid,
        exit_status=end.exit_status,
        exited_at=timestamps.from_ns(end.exited_at_ns),
    )
