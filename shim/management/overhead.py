"""What a pod costs the host beside its containers: the number for a RuntimeClass' `overhead` (Kubernetes).

It is the resident memory of the shim, QEMU and virtiofsd, less what the containers use in the guest. Pages that pods
share (the fork server's, programs') count for each of them, so it is an upper bound.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

import anyio

from agent_client.errors import AgentError
from sandbox.container import Container
from sandbox.errors import SandboxError
from sandbox.pod_state import PodState
from shim.management.exposition import Family

#: Seconds that the guest has for the statistics of all containers.
GUEST_TIMEOUT: Final = 2.0
NAME: Final = "kata_shim_pod_overhead_memory_in_bytes"
_PAGE = os.sysconf("SC_PAGE_SIZE")

_log = logging.getLogger(__name__)


async def memory_overhead(pod: PodState) -> list[Family]:
    """The metric; none where the guest does not tell what its containers use: unknown is not zero."""
    used = await _used_by_containers(pod)
    if used is None:
        return []
    held = sum(map(resident, {os.getpid(), *pod.directory.processes().values()}))
    family = Family(NAME, "gauge", "Resident memory of the pod's processes, less what its containers use.")
    return [family.add(max(0, held - used))]


async def _used_by_containers(pod: PodState) -> int | None:
    """Bytes, as the guest tells; None if it does not for all of them."""
    used: list[int] = []
    running = [one for one in pod.containers.values() if one.init.is_running]

    async def ask(container: Container) -> None:
        try:
            reply = await pod.require_machine().agent.stats_container(container.id, timeout=GUEST_TIMEOUT)
        except (AgentError, SandboxError) as error:
            _log.debug("memory of container %s: %s", container.id, error)
            return
        memory = reply.cgroup_stats.memory_stats if reply.cgroup_stats else None
        if memory is not None and memory.usage is not None:
            used.append(memory.usage.usage)

    async with anyio.create_task_group() as group:
        for container in running:
            group.start_soon(ask, container)
    return sum(used) if running and len(used) == len(running) else None


def resident(pid: int, proc: Path = Path("/proc")) -> int:
    """Resident memory of a process, in bytes; 0 if it is gone."""
    try:
        return int((proc / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
