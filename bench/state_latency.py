"""`State` of a running container: one request at a time on one connection, with the same client for both shims."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from bench.outcome import Bar, Outcome
from bench.stats import percentile, ratio
from bench.subjects import OURS, PEER, Context, Running
from protos.gen.containerd.task.v2 import StateRequest
from tests.harness.shim_binary import connect

#: How many times that of the peer the median may be.
LIMIT = 1.5

_BLOCKS = 20
_CALLS = 100
_WARM_UP = 200


async def run(context: Context, pair: dict[str, Running]) -> Outcome:
    """The benchmark, on containers that run already."""
    series: dict[str, list[float]] = {subject: [] for subject in pair}
    async with AsyncExitStack() as stack:
        stubs = {subject: await stack.enter_async_context(connect(one.address)) for subject, one in pair.items()}
        for block in range(-1, context.rounds(_BLOCKS)):
            for subject, stub in stubs.items():
                request = StateRequest(id=pair[subject].container)
                for _ in range(_CALLS if block >= 0 else _WARM_UP):
                    began = time.perf_counter()
                    await stub.state(request, timeout=10)
                    if block >= 0:
                        series[subject].append((time.perf_counter() - began) * 1e6)
    ours, peer = (percentile(series[subject], 0.99) for subject in (OURS, PEER))
    return Outcome(
        name="state",
        title="State: round trip on the shim's socket",
        unit="µs",
        series=series,
        bars=[Bar(f"p50, times that of {PEER}", ratio(series[OURS], series[PEER]), LIMIT, "")],
        facts=[f"p99: {ours / peer:.2f} times that of {PEER}"],
    )
