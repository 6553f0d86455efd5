"""Exec of `true` in a running container, from the Exec request to the answer of Wait, without stdio.

The time is split by what the daemon's own process computes meanwhile: the rest is spent in the guest, in QEMU and on
the way there and back. Under emulation QEMU's CPU time is the guest's computing.
"""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

from bench.outcome import Outcome
from bench.stats import difference, median
from bench.subjects import OURS, PEER, Context, Running
from protos.gen.containerd.task.v2 import (
    ConnectRequest,
    DeleteRequest,
    ExecProcessRequest,
    StartRequest,
    TaskStub,
    WaitRequest,
)
from protos.gen.wellknown import Any
from tests.harness.shim_binary import connect

_ROUNDS = 30
_WARM_UP = 2
_TIMEOUT = 60.0

#: How containerd names an OCI process in JSON (typeurl of runtime-spec 1).
_PROCESS_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"

_PROCESS = {
    "user": {"uid": 0, "gid": 0},
    "args": ["true"],
    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
    "cwd": "/",
}


async def run(context: Context, pair: dict[str, Running]) -> Outcome:
    """The benchmark, on containers that run already; raises `RuntimeError` if an exec does not end with 0."""
    series: dict[str, list[float]] = {subject: [] for subject in pair}
    cpu: list[float] = []
    async with AsyncExitStack() as stack:
        stubs = {subject: await stack.enter_async_context(connect(one.address)) for subject, one in pair.items()}
        daemon = (await stubs[OURS].connect(ConnectRequest(id=pair[OURS].container), timeout=10)).shim_pid
        for index in range(_WARM_UP + context.rounds(_ROUNDS)):
            for subject, stub in stubs.items():
                before = cpu_ms(daemon)
                sample = await _one_exec(stub, pair[subject].container, f"bench-{index}")
                if index < _WARM_UP:
                    continue
                series[subject].append(sample)
                if subject == OURS:
                    cpu.append(cpu_ms(daemon) - before)
    total, own = median(series[OURS]), median(cpu)
    return Outcome(
        name="exec",
        title="Exec of true: request to exit",
        unit="ms",
        series=series,
        facts=[
            f"{difference(series[OURS], series[PEER]):.1f} ms above {PEER}",
            f"CPU time of the daemon: {own:.2f} ms of {total:.1f} ms (median); "
            f"{100 * (1 - own / total):.0f} % are spent in the guest, in QEMU and on the way",
        ],
    )


async def _one_exec(stub: TaskStub, container: str, exec_id: str) -> float:
    process = Any(type_url=_PROCESS_URL, value=json.dumps(_PROCESS).encode())
    began = time.perf_counter()
    await stub.exec(ExecProcessRequest(id=container, exec_id=exec_id, spec=process), timeout=_TIMEOUT)
    await stub.start(StartRequest(id=container, exec_id=exec_id), timeout=_TIMEOUT)
    ended = await stub.wait(WaitRequest(id=container, exec_id=exec_id), timeout=_TIMEOUT)
    took = time.perf_counter() - began
    await stub.delete(DeleteRequest(id=container, exec_id=exec_id), timeout=_TIMEOUT)
    if ended.exit_status:
        raise RuntimeError(f"exec of true in {container} ended with {ended.exit_status}")
    return took * 1000


def cpu_ms(pid: int) -> float:
    """CPU time of all threads of a process in milliseconds (`/proc/pid/task/*/schedstat`, in nanoseconds)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e6
