"""Memory of the daemon and of its helpers: proportional set size, one sample each, after the daemon has worked."""

from __future__ import annotations

from bench.outcome import Bar, Outcome
from bench.subjects import OURS, PEER, Context, Running
from protos.gen.containerd.task.v2 import ConnectRequest
from tests.harness import processes
from tests.harness.shim_binary import connect

#: Most that the daemon may take, in MB (10^6 bytes).
LIMIT = 25.0


async def run(context: Context, pair: dict[str, Running]) -> Outcome:
    """The measurement, on containers that run already."""
    series = {}
    for subject, one in pair.items():
        async with connect(one.address) as stub:
            pid = (await stub.connect(ConnectRequest(id=one.container), timeout=10)).shim_pid
        series[f"{subject} (daemon)"] = [pss_mb(pid)]
    for name in ("qemu-system", "virtiofsd"):
        samples = [pss_mb(one.pid) for one in context.bed.containerd.processes() if one.name.startswith(name)]
        if samples:
            series[f"{name} (all of one pod)"] = [sum(samples)]
    daemon = series[f"{OURS} (daemon)"][0]
    return Outcome(
        name="memory",
        title="Memory of one pod with one container (PSS)",
        unit="MB",
        series=series,
        bars=[Bar("PSS of the daemon", daemon, LIMIT, "MB")],
        facts=[f"{daemon / series[f'{PEER} (daemon)'][0]:.2f} times that of {PEER}"],
    )


def pss_mb(pid: int) -> float:
    """Proportional set size of a process in MB (10^6 bytes)."""
    return processes.memory_kib(pid) * 1024 / 1e6
