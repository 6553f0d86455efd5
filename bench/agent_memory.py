"""The agent's memory in the guest after some work, and its time from exec to ready.

The exec is told by a line that the initrd writes to the kernel's log just before it; both times are the guest's clock.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.agent_guest import agent_guest
from bench.outcome import Bar, Outcome
from bench.subjects import Context
from tests.harness.live_guest import Live, booted, process
from tests.harness.waiting import eventually

RSS = "RSS of the agent (MB)"
READY = "exec to ready (s)"
#: Most that the agent may take, in MB (10^6 bytes).
LIMIT = 30.0

_BOOTS = 3
_MARK = "kata-bench: exec"
_EXEC = b"exec $box switch_root"
_LOG = re.compile(rf"\[ *([0-9.]+)\] {_MARK}|\[ *([0-9.]+)\] kata-agent info: ready")


async def run(context: Context) -> Outcome:
    """The measurement."""
    directory = context.scratch("agent-memory")
    async with agent_guest(directory / "agent") as guest:
        await _work(guest)
        rss = _rss(await guest.agent.upkeep.get_metrics()) / 1e6
    ready = [await _boot(directory / f"boot-{index}") for index in range(context.rounds(_BOOTS))]
    return Outcome(
        name="agent-memory",
        title="The agent's memory and start",
        unit="MB, s",
        series={RSS: [rss], READY: ready},
        bars=[Bar("RSS of the agent", rss, LIMIT, "MB")],
    )


async def _work(guest: Live) -> None:
    """A little of everything: execs, output in bulk, statistics."""
    for _ in range(5):
        await guest.exec(process("dd", "if=/dev/zero", "bs=64k", "count=64"))
    await guest.agent.stats_container("standing")
    await guest.agent.network.list_interfaces()


def _rss(metrics: str) -> int:
    return int(next(line.split()[1] for line in metrics.splitlines() if line.startswith("kata_agent_total_rss ")))


async def _boot(directory: Path) -> float:
    """Seconds from exec to ready of one boot."""
    directory.mkdir(parents=True)

    def marked(original: bytes) -> bytes:
        # As many bytes as before: the file's length stands in the archive.
        line = f'echo "<0>{_MARK}" >/root/dev/kmsg\n'.encode()
        return _insert(original, _EXEC, line)

    async with booted(directory, initrd=directory / "initrd", adapt=marked) as (vm, _):
        eventually(lambda: len(times(vm.diagnostics().console_tail)) == 2, "the agent says that it is ready", 10)
        begin, end = times(vm.diagnostics().console_tail)
    return end - begin


def _insert(archive: bytes, before: bytes, line: bytes) -> bytes:
    """Put `line` into the init script in front of `before`, in place of as many bytes of its comments."""
    start, _, rest = archive.partition(b"#!/bin/busybox sh\n")
    script, _, _ = rest.partition(before)
    short = re.sub(rb"(?m)^ *#.*\n", b"", script)
    room = len(script) - len(short) - len(line)
    if room < 1:
        raise RuntimeError("the init script has too few comments to take a line")
    padded = short + b"#" * (room - 1) + b"\n" + line
    return start + b"#!/bin/busybox sh\n" + padded + rest[len(script) :]


def times(console: str) -> list[float]:
    """When the agent was executed, and when it was ready, as far as the console tells."""
    return [float(begin or end) for begin, end in _LOG.findall(console)]
