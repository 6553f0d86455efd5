"""Fifty pods at once: from the client's call to its running container, each; and whether the order was fair.

All clients are started together. The daemons' own clocks tell when each pod stood in line, had its turn to boot, and
was up. The pods boot in the order in which they came, so the last one waits for all others: were all equal and nothing
else to do, the median would be half of the last one's.
"""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import DEVNULL, PIPE

from bench.outcome import Bar, Outcome
from bench.stats import median, percentile
from bench.subjects import Context
from sandbox.plan import host_size
from sandbox.rundir import read_journal, run_dir_for
from tests.harness.boots import Boot, most_at_once, overtaken

PODS = 50
#: How many times the median the 99th percentile may be.
LIMIT = 2.5
#: Seconds for one pod, all others before it.
_TIMEOUT = 900.0
#: By how much a daemon's clock may be wrong about its place in line, and about the end of its boot, in seconds.
_TOLERANCE = 0.25

TOTAL = "ctr run to running container"
WAITING = "of it: waiting for its turn"
BOOTING = "of it: its boot"


async def run(context: Context) -> Outcome:
    """The benchmark; raises `RuntimeError` if a pod does not start."""
    count = max(2, min(PODS, round(PODS * context.effort)))
    names = [f"parallel-{index}" for index in range(count)]
    ctr = context.bed.ctr()
    began = time.monotonic()
    try:
        totals = await asyncio.gather(*(_start(context, name) for name in names))
        last = time.monotonic() - began
        boots = [Boot.of(read_journal(run_dir_for(str(context.bed.socket), "default", name))) for name in names]
    finally:
        for name in ctr.containers():
            if name in names:
                ctr.remove(name)
    return Outcome(
        name="parallel",
        title=f"{count} pods at once",
        unit="s",
        series={
            TOTAL: totals,
            WAITING: [boot.turn - boot.arrival for boot in boots],
            BOOTING: [boot.ready - boot.turn for boot in boots],
        },
        bars=[Bar("p99 in medians", percentile(totals, 0.99) / median(totals), LIMIT, "")],
        facts=[
            f"all {count} run after {last:.1f} s: {last / count:.2f} s for each",
            f"at most {most_at_once(boots, _TOLERANCE)} boots at a time, on {host_size().cpus} processors",
            f"{overtaken(boots, _TOLERANCE)} of {count * (count - 1) // 2} pairs had their turns against the order in "
            "which they came",
        ],
    )


async def _start(context: Context, name: str) -> float:
    """Seconds from the call to its end."""
    ctr = context.bed.ctr()
    command = ctr.command(*ctr.run_arguments(name, "sleep", "100000", options=("--detach",)))
    began = time.monotonic()
    client = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    try:
        async with asyncio.timeout(_TIMEOUT):
            _, errors = await client.communicate()
    except TimeoutError as error:
        client.kill()
        raise RuntimeError(f"{name} does not run after {_TIMEOUT:g} s") from error
    if client.returncode:
        raise RuntimeError(f"{name}: {errors.decode(errors='replace').strip()[:500]}")
    return time.monotonic() - began
