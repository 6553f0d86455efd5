"""What a pod costs the host beside its containers: the numbers for a RuntimeClass' `overhead` (Kubernetes).

- memory: that of the shim, QEMU and virtiofsd, less what the containers use in the guest. It is the proportional set
  size (proc(5), smaps_rollup): what several processes share, the guest's memory among it, counts once.
- CPU: the time of the same processes, less that of QEMU's vCPU threads: what runs beside the guest.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

import anyio

from agent_client.errors import AgentError
from hypervisor.errors import HypervisorError
from sandbox.container import Container
from sandbox.errors import SandboxError
from sandbox.pod_state import PodState
from shim.management.exposition import Family

#: Seconds that the guest has for the statistics of all containers.
GUEST_TIMEOUT: Final = 2.0
NAME: Final = "kata_shim_pod_overhead_memory_in_bytes"
CPU_NAME: Final = "kata_shim_pod_overhead_cpu_seconds_total"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
#: Columns of /proc/<pid>/stat behind the name in parentheses: utime and stime.
_TIMES = slice(11, 13)

_log = logging.getLogger(__name__)


async def memory_overhead(pod: PodState) -> list[Family]:
    """The metric; none where the guest does not tell what its containers use: unknown is not zero."""
    used = await _used_by_containers(pod)
    if used is None:
        return []
    held = sum(map(proportional, _processes(pod)))
    family = Family(NAME, "gauge", "Memory (PSS) of the pod's processes, less what its containers use.")
    return [family.add(max(0, held - used))]


async def cpu_overhead(pod: PodState) -> list[Family]:
    """The metric; none where QEMU does not tell its threads in time."""
    machine = pod.machine
    if machine is None or pod.is_lost:
        return []
    try:
        with anyio.fail_after(GUEST_TIMEOUT):
            threads = await machine.sizer.vcpu_threads()
    except (HypervisorError, TimeoutError) as error:
        _log.debug("threads of the vCPUs: %s", error)
        return []
    spent = sum(ticks(f"{pid}") for pid in _processes(pod))
    guest = sum(ticks(f"{machine.pid}/task/{thread}") for thread in threads)
    family = Family(CPU_NAME, "counter", "CPU time of the pod's processes, less that of its vCPUs.")
    return [family.add(max(0, spent - guest) / _TICKS_PER_SECOND)]


def _processes(pod: PodState) -> set[int]:
    return {os.getpid(), *pod.directory.processes().values()}


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


def proportional(pid: int, proc: Path = Path("/proc")) -> int:
    """Proportional set size of a process, in bytes; 0 if it is gone."""
    try:
        lines = (proc / str(pid) / "smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    except (OSError, IndexError, ValueError, StopIteration):
        return 0


def ticks(task: str, proc: Path = Path("/proc")) -> int:
    """CPU time of a process, or of a thread (`<pid>/task/<tid>`), in clock ticks; 0 if it is gone."""
    try:
        return sum(map(int, (proc / task / "stat").read_text().rpartition(")")[2].split()[_TIMES]))
    except (OSError, ValueError):
        return 0
