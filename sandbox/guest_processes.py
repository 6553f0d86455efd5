"""Which processes of the guest run in a container, for containerd's `Pids`.

What containerd's clients do with the answer decides its form:

- containerd itself, after its own restart, takes an empty list or an error for a dead pod and lets go of it: so the
  VM's pid comes first, always, and the guest is asked for no longer than `TIMEOUT`; one that did not answer is not
  asked again for `PAUSE`, since containerd asks for one container after the other and its start waits for that;
- `ctr task ps` prints the list; `docker top` and `nerdctl top` look the numbers up among the *host's* processes. A
  guest's pid would name an innocent process of the host there. So a guest process is listed as `BASE` plus its pid in
  the container: 10000001 is the container's process 1. No Linux host has such a pid (the kernel's limit is 4194304),
  so nothing can be mistaken for it, or be sent a signal in its place.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from sandbox.container import Container
from sandbox.interface import ProcessInfo

BASE = 10_000_000
#: Seconds for the guest's answer.
TIMEOUT = 0.5
#: Seconds in which a guest that gave none is left alone.
PAUSE = 10.0
#: What our agent calls the list (`GetDiagnosticData`); Kata's refuses it.
LOG_TYPE = "processes"
MAX_PROCESSES = 4096
#: The kernel's PID_MAX_LIMIT.
_PID_MAX = 1 << 22

_log = logging.getLogger(__name__)


class GuestProcess(msgspec.Struct, frozen=True):
    """One entry of the agent's list; what else it tells is of no use here."""

    pid: int
    exec_id: str = ""


_decoder = msgspec.json.Decoder(list[GuestProcess])


class GuestProcesses:
    """Asks the guest of one pod."""

    def __init__(self) -> None:
        self._silent_until = 0.0

    async def listed(self, agent: AgentClient, container: Container) -> list[ProcessInfo]:
        """The processes of `container`, or none if the guest does not tell, or tells nonsense."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._silent_until:
            return []
        try:
            async with asyncio.timeout(TIMEOUT):
                text = await agent.upkeep.get_diagnostic_data(LOG_TYPE, container.id, timeout=TIMEOUT)
            return parsed(text, {item.guest_exec_id: item.exec_id for item in container.execs.values()})
        except (AgentError, TimeoutError, ValueError) as error:
            _log.debug("container %s: no list of its processes: %s", container.id, error)
            self._silent_until = loop.time() + PAUSE
            return []


def parsed(text: str, exec_ids: dict[str, str]) -> list[ProcessInfo]:
    """The entries of the agent's list, with containerd's exec ids for the guest's; raises ValueError for nonsense."""
    try:
        processes = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"the guest's list of processes is malformed: {error}") from error
    if len(processes) > MAX_PROCESSES or not all(0 < process.pid <= _PID_MAX for process in processes):
        raise ValueError("the guest's list of processes can't be right")
    return [ProcessInfo(BASE + process.pid, exec_ids.get(process.exec_id, "")) for process in processes]
