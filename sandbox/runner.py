"""Runs what accompanies a process while it lives: its streams, and the wait for its end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from agent_client.streams import repeated
from sandbox.guest_errors import EXIT_UNKNOWN
from sandbox.interface import Stdio
from sandbox.process import Process
from sandbox.streams import OutputPump, output_pumps, pump_stdin

#: 128 + SIGKILL: what a process ends with when its VM goes.
EXIT_KILLED = 137

_log = logging.getLogger(__name__)


async def run_process(
    process: Process, agent: AgentClient, stdio: Stdio, on_exit: Callable[[int], Awaitable[None]]
) -> None:
    """Pump the streams and call `on_exit` with the exit status once the output is delivered.

    The host's ends are closed before the exit is told: clients read until the end of file. Only where a grandchild
    holds an output open do the pumps go on, until it lets go or `process.scope` is cancelled. Kata's agent forgets a
    process, with all output that was not read, when it has answered a wait: so there the wait comes after the output,
    as in Kata's own runtimes.
    """
    pumps = output_pumps(agent, process.container_id, process.guest_exec_id, stdio, process.io.terminal)
    with process.scope:
        async with anyio.create_task_group() as group:
            for pump in pumps:
                group.start_soon(pump.run)
            status = await _wait_with_stdin(process, agent, stdio, [] if agent.knows_positions else pumps)
            for pump in pumps:
                await pump.drained()
            if all(pump.is_done for pump in pumps):
                await stdio.aclose()
            await on_exit(status)
        await stdio.aclose()


async def _wait_with_stdin(process: Process, agent: AgentClient, stdio: Stdio, first: Sequence[OutputPump]) -> int:
    """Feed standard input, and wait for the end: of the outputs `first`, then of the process; its exit status."""
    async with anyio.create_task_group() as group:
        group.start_soon(_feed, process, agent, stdio)
        for pump in first:
            await pump.ended()
        status = await wait_status(process, agent)
        group.cancel_scope.cancel()
    return status


async def _feed(process: Process, agent: AgentClient, stdio: Stdio) -> None:
    await process.wait_started()
    await pump_stdin(agent, process.container_id, process.guest_exec_id, stdio, process.io.terminal)


async def wait_status(process: Process, agent: AgentClient) -> int:
    """The exit status in containerd's terms: 0 to 255, 137 when the VM is lost, 255 when the agent does not know."""
    try:
        status = await repeated(agent, lambda: agent.wait_process(process.container_id, process.guest_exec_id))
    except AgentError as error:
        _log.info("wait for %s: %s", process.state.what, error)
        return EXIT_KILLED if error.lost else EXIT_UNKNOWN
    return status if 0 <= status <= 255 else EXIT_UNKNOWN
