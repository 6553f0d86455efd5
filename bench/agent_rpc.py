"""An RPC to the guest's agent and back, beside a raw echo of as many bytes over the same kind of channel.

Both guests run at the same time and take turns. The echo is busybox reading and writing the port.
"""

from __future__ import annotations

import time

from bench.agent_guest import agent_guest
from bench.outcome import Outcome
from bench.raw_guest import raw_guest
from bench.stats import difference, percentile
from bench.subjects import Context

RPC = "Health.Check of the agent"
RAW = "raw echo of 64 bytes"

_SIZE = 64
_ROUNDS = 10
_CALLS = 50


async def run(context: Context) -> Outcome:
    """The benchmark; the first round does not count."""
    series: dict[str, list[float]] = {RPC: [], RAW: []}
    directory = context.scratch("agent-rpc")
    async with raw_guest(directory) as raw, agent_guest(directory / "agent") as guest:
        for index in range(1 + context.rounds(_ROUNDS)):
            calls = []
            for _ in range(_CALLS):
                began = time.perf_counter()
                await guest.agent.check()
                calls.append((time.perf_counter() - began) * 1000)
            echoes = await raw.echoes(_SIZE, _CALLS)
            if index:
                series[RPC] += calls
                series[RAW] += echoes
    return Outcome(
        name="agent-rpc",
        title="RPC round trip to the guest",
        unit="ms",
        series=series,
        facts=[
            f"{difference(series[RPC], series[RAW]):.2f} ms above the echo (median), "
            f"{percentile(series[RPC], 0.99) - percentile(series[RAW], 0.99):.2f} ms at p99"
        ],
    )
