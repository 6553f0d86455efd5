"""Pods through containerd's CRI, as kubelet makes them: one at a time, and ten at once, beside runc.

The clock covers RunPodSandbox (CNI network, pause container), CreateContainer and StartContainer, to the answer of the
last. Starts are cold: no template, no cache.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from bench.outcome import Outcome
from bench.stats import difference, percentile, ratio
from bench.subjects import OURS, PEER, Context
from tests.harness.cri import Cri
from tests.harness.runtimes import KATA, RUNC

_SUBJECTS = {OURS: KATA, PEER: RUNC}
_ROUNDS = 10
_TOGETHER = 10
_ROUNDS_TOGETHER = 2


async def run(context: Context) -> list[Outcome]:
    """The benchmark; subjects take turns, the first round of single pods does not count."""
    async with AsyncExitStack() as stack:
        clients = {}
        for subject, handler in _SUBJECTS.items():
            connection = Cri.connect(context.bed.socket, context.bed.pod_logs, handler)
            clients[subject] = await stack.enter_async_context(connection)
            await clients[subject].wait_for_image()
        return [await _alone(context, clients), await _together(context, clients)]


async def _alone(context: Context, clients: dict[str, Cri]) -> Outcome:
    series: dict[str, list[float]] = {subject: [] for subject in clients}
    for index in range(1 + context.rounds(_ROUNDS)):
        for subject, cri in clients.items():
            (sample,) = await _pods(cri, [f"alone-{index}"])
            if index:
                series[subject].append(sample)
    return Outcome(
        name="cri-pod",
        title="A pod with a container through CRI, cold",
        unit="s",
        series=series,
        facts=[f"{difference(series[OURS], series[PEER]):.2f} s above {PEER}"],
    )


async def _together(context: Context, clients: dict[str, Cri]) -> Outcome:
    series: dict[str, list[float]] = {subject: [] for subject in clients}
    for index in range(context.rounds(_ROUNDS_TOGETHER)):
        for subject, cri in clients.items():
            series[subject] += await _pods(cri, [f"many-{index}-{number}" for number in range(_TOGETHER)])
    spread = {subject: percentile(samples, 0.99) / percentile(samples, 0.5) for subject, samples in series.items()}
    return Outcome(
        name="cri-ten-pods",
        title="Ten pods with a container each at once, through CRI, cold",
        unit="s",
        series=series,
        facts=[
            f"{ratio(series[OURS], series[PEER]):.1f} times {PEER}",
            *(f"{subject}: p99 is {times:.2f} times p50" for subject, times in spread.items()),
        ],
    )


async def _pods(cri: Cri, names: list[str]) -> list[float]:
    """Seconds from asking for these pods, all at once, to each one's running container; they are gone again."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_pod(cri, name)) for name in names]
        return [task.result() for task in tasks]
    finally:
        await cri.remove_all()


async def _pod(cri: Cri, name: str) -> float:
    began = time.perf_counter()
    pod = await cri.run_pod(name)
    await cri.run(pod, "main", "sleep", "100000")
    return time.perf_counter() - began
