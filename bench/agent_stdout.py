"""Standard output of a container, read through the agent, beside the raw throughput of the same kind of channel.

Both are `dd` of zeros in blocks of 64 KiB: one in a container, into its standard output, one straight into the port.
"""

from __future__ import annotations

import time

from bench.agent_guest import agent_guest
from bench.outcome import Bar, Outcome
from bench.raw_guest import raw_guest
from bench.stats import ratio
from bench.subjects import Context
from sandbox.streams import READ
from tests.harness.live_guest import STANDING, Live, process

STDOUT = "stdout through the agent"
RAW = "raw channel"
#: How many times that of standard output the raw throughput may be: 1 / 0.6.
LIMIT = 1 / 0.6

_MIB = 32
_ROUNDS = 6


async def run(context: Context) -> Outcome:
    """The benchmark; the first round does not count."""
    series: dict[str, list[float]] = {STDOUT: [], RAW: []}
    directory = context.scratch("agent-stdout")
    async with raw_guest(directory) as raw, agent_guest(directory / "agent") as guest:
        for index in range(1 + context.rounds(_ROUNDS)):
            samples = {STDOUT: await _stdout(guest), RAW: await raw.receive(_MIB << 10)}
            for subject, sample in samples.items() if index else ():
                series[subject].append(sample)
    share = ratio(series[STDOUT], series[RAW])
    return Outcome(
        name="agent-stdout",
        title="Throughput of standard output",
        unit="MiB/s",
        series=series,
        bars=[Bar("times that of stdout is the raw throughput", 1 / share, LIMIT, "")],
        facts=[f"stdout has {share:.2f} of the raw throughput"],
    )


async def _stdout(guest: Live) -> float:
    """MiB per second; raises `RuntimeError` if not all of it comes."""
    name = guest.name()
    await guest.agent.exec_process(
        container_id=STANDING, exec_id=name, process=process("dd", "if=/dev/zero", "bs=64k", f"count={_MIB * 16}")
    )
    received, began = 0, time.perf_counter()
    # As the shim reads it: with its position, so that nothing is lost with a connection.
    while data := await guest.agent.read_stdout(STANDING, name, READ, position=received):
        received += len(data)
    took = time.perf_counter() - began
    if await guest.agent.wait_process(STANDING, name) or received != _MIB << 20:
        raise RuntimeError(f"{received} bytes of standard output came, not {_MIB} MiB")
    return _MIB / took
