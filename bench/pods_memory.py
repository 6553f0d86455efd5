"""What the host spends on each pod, by how many there are: PSS of the daemons and of all their helpers.

Pods are started one after the other, cold, each with a sleeping container. A page that all daemons share counts once,
in equal parts; so does the fork server, which they share, too. PSS is what makes the sum of all processes right.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.memory import megabytes
from bench.outcome import Bar, Outcome
from bench.subjects import OURS, Context
from shim.forkserver.main import NAME as FORK_SERVER
from tests.harness import processes
from tests.harness.processes import Process

#: Numbers of pods at which is measured; at `JUDGED` of them a daemon may take `LIMIT` MB.
NUMBERS = (1, 2, 5, 10, 20, 30, 40, 50)
JUDGED, LIMIT = 30, 5.0

DAEMON = f"{OURS} (daemon)"
SERVER = "fork server"
ALL = "all of a pod on the host"
_HELPERS = ("qemu-system", "virtiofsd")


async def run(context: Context) -> Outcome:
    """The measurement; with less effort there are fewer pods."""
    ctr = context.bed.ctr()
    names: list[str] = []
    points: dict[str, list[tuple[int, float]]] = {}
    try:
        for number in (one for one in NUMBERS if one <= max(2, NUMBERS[-1] * context.effort)):
            while len(names) < number:
                names.append(f"pods-{len(names)}")
                ctr.run_detached(names[-1], "sleep", "100000")
            for part, size in per_pod(number, processes.descendants([context.bed.containerd.reaper_pid])).items():
                points.setdefault(part, []).append((number, size))
    finally:
        for name in ctr.containers():
            if name in names:
                ctr.remove(name)
    return _outcome(points)


def per_pod(pods: int, below: Iterable[Process]) -> dict[str, float]:
    """Megabytes for each of so many pods, by part, of the processes `below`; `LookupError` if one has no daemon."""
    sums: dict[str, float] = {}
    found = [(part_of(one), one.pid) for one in below]
    daemons = sum(part == DAEMON for part, _ in found)
    if daemons != pods:
        raise LookupError(f"{daemons} daemons of {pods} pods")
    for part, pid in found:
        if part:
            sums[part] = sums.get(part, 0.0) + megabytes(pid)
    return {**{part: size / pods for part, size in sums.items()}, ALL: sum(sums.values()) / pods}


def part_of(process: Process) -> str:
    """Which part of a pod a process is; empty for what belongs to none (containerd, its log's reader)."""
    if FORK_SERVER in process.command:
        return SERVER
    program = process.command.partition(" ")[0].rpartition("/")[2]
    helper = next((name for name in _HELPERS if program.startswith(name)), "")
    return helper or (DAEMON if " -id " in process.command else "")


def _outcome(points: dict[str, list[tuple[int, float]]]) -> Outcome:
    daemons = dict(points[DAEMON])
    judged = max(number for number in daemons if number <= JUDGED)
    alone, last = points[ALL][0][1], points[ALL][-1]
    return Outcome(
        name="pods",
        title="Memory for each pod, over all numbers of pods (PSS)",
        unit="MB",
        series={part: [size for _, size in found] for part, found in points.items()},
        bars=[
            Bar(f"PSS of a daemon, of {judged}", daemons[judged], LIMIT, "MB", f"one alone: {daemons[1]:.1f} MB"),
        ],
        facts=[f"{alone:.0f} MB for a pod alone, {last[1]:.0f} MB for each of {last[0]}"],
        by_pods=points,
    )
