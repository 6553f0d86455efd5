"""Standard output of a container, read through the agent, beside the raw throughput of the same kind of channel.

The same two producers on both sides. The one with the bar is the cheapest there is: `cat` of a file in memory, which is
sendfile(2), so that the guest's processor is spent on the way and not on the data. The other is `dd` of zeros in blocks
of 64 KiB, whose write(2) into a container's pipe costs an emulated guest more than all of the raw way.
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

STDOUT = "stdout through the agent, spliced"
RAW = "raw channel, spliced"
STDOUT_WRITTEN = "stdout through the agent, written"
RAW_WRITTEN = "raw channel, written"
#: How many times that of standard output the raw throughput may be: 1 / 0.6.
LIMIT = 1 / 0.6

_MIB = 32
_KIB = _MIB << 10
_ROUNDS = 10
_FILE = "/tmp/data"
_FILL = f"dd if=/dev/zero of={_FILE} bs=64k count={_MIB * 16} 2>/dev/null"


async def run(context: Context) -> Outcome:
    """The benchmark; the first round does not count."""
    series: dict[str, list[float]] = {STDOUT: [], RAW: [], STDOUT_WRITTEN: [], RAW_WRITTEN: []}
    directory = context.scratch("agent-stdout")
    async with raw_guest(directory) as raw, agent_guest(directory / "agent") as guest:
        await raw.fill(_KIB)
        await guest.sh(_FILL)
        for index in range(1 + context.rounds(_ROUNDS)):
            samples = {
                STDOUT: await _stdout(guest, "cat", _FILE),
                RAW: await raw.spliced(_KIB),
                STDOUT_WRITTEN: await _stdout(guest, "dd", "if=/dev/zero", "bs=64k", f"count={_MIB * 16}"),
                RAW_WRITTEN: await raw.written(_KIB),
            }
            for subject, sample in samples.items() if index else ():
                series[subject].append(sample)
    share = ratio(series[STDOUT], series[RAW])
    written = ratio(series[STDOUT_WRITTEN], series[RAW_WRITTEN])
    return Outcome(
        name="agent-stdout",
        title="Throughput of standard output",
        unit="MiB/s",
        series=series,
        bars=[Bar("times that of stdout is the raw throughput, spliced", 1 / share, LIMIT, "")],
        facts=[f"stdout has {share:.2f} of the raw throughput if spliced, {written:.2f} if written"],
    )


async def _stdout(guest: Live, *command: str) -> float:
    """MiB per second; raises `RuntimeError` if not all of it comes."""
    name = guest.name()
    await guest.agent.exec_process(container_id=STANDING, exec_id=name, process=process(*command))
    received, began = 0, time.perf_counter()
    # As the shim reads it: with its position, so that nothing is lost with a connection.
    while data := await guest.agent.read_stdout(STANDING, name, READ, position=received):
        received += len(data)
    took = time.perf_counter() - began
    if await guest.agent.wait_process(STANDING, name) or received != _MIB << 20:
        raise RuntimeError(f"{received} bytes of standard output came, not {_MIB} MiB")
    return _MIB / took
