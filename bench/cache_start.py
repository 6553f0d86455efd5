"""Start of a sandbox whose VM waits in the cache beside its cold start.

Another pod stays all the while, as on a node in use. The clock is the daemon's own, from `Create` to a guest with its
sandbox (the journal's `started`). The network is a veth in a namespace, as CNI makes it. Each start from the cache
proves that it is one: QEMU's pid was among those that waited, and QEMU is older than its pod. The pool is full again,
and still, before the next start is measured.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from bench.outcome import Bar, Outcome
from bench.start_records import Started, median_phases, resident, started
from bench.stats import ratio
from bench.subjects import OURS, Context
from sandbox.rundir import ROOT
from tests.harness import paths
from tests.harness.command import run as command
from tests.harness.ctr import Ctr
from tests.harness.netns import network_namespace
from tests.harness.waiting import eventually

COLD = "cold"
#: How much of the cold start a start from the cache may take.
OF_COLD = 0.06
_ROUNDS = 5
_TIMEOUT = 120.0


async def run(context: Context) -> Outcome:
    """The benchmark; subjects take turns, the first round warms the page cache and does not count."""
    endpoint = Path(f"/run/kata-cache-bench-{os.getpid()}.sock")
    configuration = _configuration(context, endpoint)
    _ctl("start", configuration)
    try:
        starts = _measure(context, configuration)
    finally:
        _ctl("stop", configuration)
    series = {subject: [one.total for one in found] for subject, found in starts.items()}
    return Outcome(
        name="cache",
        title="Start of a sandbox from the cache of VMs",
        unit="s",
        series=series,
        bars=[Bar("of the cold start", ratio(series[OURS], series[COLD]), OF_COLD, "")],
        phases={"cache": median_phases(starts[OURS])},
    )


def _measure(context: Context, configuration: Path) -> dict[str, list[Started]]:
    cold = Ctr(context.bed.socket, context.bed.runtime, configuration=context.bed.configuration)
    cached = Ctr(context.bed.socket, context.bed.runtime, configuration=configuration)
    starts: dict[str, list[Started]] = {OURS: [], COLD: []}
    with network_namespace() as netns, resident(cold):
        netns.veth("eth0", "10.214.12.2/24", peer=("10.214.12.1/24",))
        for index in range(1 + context.rounds(_ROUNDS)):
            for subject, ctr, kind in ((OURS, cached, "cache"), (COLD, cold, "cold")):
                waiting = eventually(lambda: _waiting(configuration), "a VM waits in the cache", _TIMEOUT)
                one = _start(ctr, f"cache-{kind}-{index}", netns.option, kind, waiting)
                if index:
                    starts[subject].append(one)
    return starts


def _configuration(context: Context, endpoint: Path) -> Path:
    """With one VM in the cache: its boot is over before the next start."""
    path = context.directory / "cache.toml"
    keys = f'[factory]\nvm_cache_number = 1\nvm_cache_endpoint = "{endpoint}"\n'
    path.write_text(context.bed.configuration.read_text().replace("[factory]\n", keys, 1))
    return path


def _start(ctr: Ctr, name: str, options: tuple[str, ...], kind: str, waiting: set[int]) -> Started:
    """How the start of a sandbox went; it is of that kind, and gone again."""
    ctr.run_detached(name, "sleep", "100000", options=options)
    try:
        (directory,) = ROOT.glob(f"{name}-????????")
        journal = json.loads((directory / "state.json").read_text())
        processes, one = journal["processes"], started(name)
        has_waited = processes["qemu"]["pid"] in waiting
        is_older = processes["qemu"]["start_time"] < processes["daemon"]["start_time"]
        if (one.kind, has_waited, is_older) != (kind, kind == "cache", kind == "cache"):
            raise RuntimeError(f"{name} is no {kind} start: {one.kind}, waited: {has_waited}, older: {is_older}")
        return one
    finally:
        ctr.remove(name)


def _waiting(configuration: Path) -> set[int]:
    """Pids of the VMs that wait."""
    return set(map(int, re.findall(r"^vm-\d+ +pid=(\d+)", _ctl("status", configuration), re.MULTILINE)))


def _ctl(action: str, configuration: Path) -> str:
    program = paths.PREFIX / "bin" / "kata-ctl"
    return command(program, "cache", action, "--file", configuration, timeout=60).check().text
