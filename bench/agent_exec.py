"""Exec of `true` through the agent, beside `crun exec` of it in the guest alone; both in the same running container.

The time of the agent is ExecProcess and WaitProcess as the host sees them; crun's is measured inside of the guest.
"""

from __future__ import annotations

import time

from bench.agent_guest import agent_guest, crun_execs
from bench.outcome import Bar, Outcome
from bench.stats import difference
from bench.subjects import Context
from tests.harness.live_guest import STANDING, Live, process

AGENT = "ExecProcess to WaitProcess"
CRUN = "crun exec in the guest"
#: Most that the way through the agent may take longer, in milliseconds.
LIMIT = 20.0

_ROUNDS = 6
_EXECS = 10


async def run(context: Context) -> Outcome:
    """The benchmark; the first round does not count."""
    series: dict[str, list[float]] = {AGENT: [], CRUN: []}
    async with agent_guest(context.scratch("agent-exec") / "agent") as guest:
        for index in range(1 + context.rounds(_ROUNDS)):
            ours = [await _exec(guest) for _ in range(_EXECS)]
            crun = await crun_execs(guest, _EXECS)
            if index:
                series[AGENT] += ours
                series[CRUN] += crun
    more = difference(series[AGENT], series[CRUN])
    return Outcome(
        name="agent-exec",
        title="Exec of true in the guest",
        unit="ms",
        series=series,
        bars=[Bar("longer than crun alone", more, LIMIT, "ms")],
    )


async def _exec(guest: Live) -> float:
    name, began = guest.name(), time.perf_counter()
    await guest.agent.exec_process(container_id=STANDING, exec_id=name, process=process("true"))
    status = await guest.agent.wait_process(STANDING, name)
    took = (time.perf_counter() - began) * 1000
    if status:
        raise RuntimeError(f"exec of true ended with {status}")
    return took
