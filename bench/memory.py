"""Memory of the daemon and of its helpers: proportional set size, one sample each, after the daemon has worked.

Their sum is the pod's overhead on the host: the guest's kernel, agent and page cache are in QEMU's share.

A page that n processes map counts 1/n of itself: other Python processes, this one too, make the daemon's share of the
interpreter smaller. So the pages that are its own (USS), and all it maps (RSS), are told as well.
"""

from __future__ import annotations

from bench.outcome import Bar, Outcome
from bench.subjects import OURS, PEER, Context, Running
from protos.gen.containerd.task.v2 import ConnectRequest
from tests.harness import processes
from tests.harness.shim_binary import connect

#: Most that the daemon may take, in MB (10^6 bytes).
LIMIT = 25.0


async def run(context: Context, pair: dict[str, Running]) -> Outcome:  # noqa: ARG001 (as all benchmarks that share a pair)
    """The measurement, on containers that run already."""
    series = {}
    facts = []
    helpers: list[processes.Process] = []
    for subject, one in pair.items():
        async with connect(one.address) as stub:
            pid = (await stub.connect(ConnectRequest(id=one.container), timeout=10)).shim_pid
        if subject == OURS:
            helpers = processes.descendants([pid])
        series[f"{subject} (daemon)"] = [megabytes(pid)]
        own = megabytes(pid, "Private_Clean") + megabytes(pid, "Private_Dirty")
        facts.append(f"{subject}: USS {own:.1f} MB, RSS {megabytes(pid, 'Rss'):.1f} MB")
    for name in ("qemu-system", "virtiofsd"):
        samples = [megabytes(one.pid) for one in helpers if one.name.startswith(name)]
        if samples:
            series[f"{name} (all of one pod)"] = [sum(samples)]
    daemon = series[f"{OURS} (daemon)"][0]
    pod = sum(samples[0] for name, samples in series.items() if not name.startswith(PEER))
    series["the pod on the host (daemon, QEMU, virtiofsd)"] = [pod]
    facts.append(f"the pod's overhead is {pod / series[f'{PEER} (daemon)'][0]:.1f} times that of {PEER}")
    return Outcome(
        name="memory",
        title="Memory of one pod with one container (PSS)",
        unit="MB",
        series=series,
        bars=[Bar("PSS of the daemon", daemon, LIMIT, "MB")],
        facts=[f"PSS is {daemon / series[f'{PEER} (daemon)'][0]:.2f} times that of {PEER}", *facts],
    )


def megabytes(pid: int, field: str = "Pss") -> float:
    """A field of a process' `smaps_rollup` in MB (10^6 bytes)."""
    return processes.memory_kib(pid, field) * 1024 / 1e6
