"""`start` of the shim binary, from its exec to the end of its output, beside containerd-shim-runc-v2.

Each start gets a fresh bundle and leaves a daemon, as under containerd; the daemon is killed before the next start. The
floor is an interpreter that does nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import time

from bench.outcome import Bar, Outcome
from bench.stats import difference, median, ratio
from bench.subjects import OURS, PEER, Context
from tests.harness import paths
from tests.harness.bundles import Bundle, spec
from tests.harness.shim_binary import ShimBinary, devnull_start, socket_of

#: How far above the peer's the median may be, in milliseconds; and how many times it: 12 ms where it takes 5.
LIMIT, LIMIT_OF_TIMES = 30.0, 12 / 5

FLOOR = "python -I -S -c pass"

_REMARK = f"the floor is an interpreter that does nothing (`{FLOOR}`)"
_ROUNDS = 40
_WARM_UP = 3


async def run(context: Context) -> Outcome:
    """The benchmark; raises `RuntimeError` if a start fails."""
    series: dict[str, list[float]] = {subject: [] for subject in (*context.shims(), FLOOR)}
    for index in range(_WARM_UP + context.rounds(_ROUNDS)):
        for subject, shim in context.shims().items():
            sample = _one_start(context, shim, f"start-{index}")
            if index >= _WARM_UP:
                series[subject].append(sample)
        if index >= _WARM_UP:
            series[FLOOR].append(_floor())
    above = difference(series[OURS], series[PEER])
    beside = f"{median(series[OURS]):.1f} ms, the peer {median(series[PEER]):.1f} ms"
    return Outcome(
        name="start",
        title="start: exec of the shim binary to its printed address",
        unit="ms",
        series=series,
        bars=[
            Bar(f"median above that of {PEER}", above, LIMIT, "ms"),
            Bar(f"times that of {PEER}", ratio(series[OURS], series[PEER]), LIMIT_OF_TIMES, "", beside, _REMARK),
        ],
    )


def _one_start(context: Context, shim: ShimBinary, container: str) -> float:
    directory = context.directory / container
    bundle = Bundle(directory, spec(["true"]))
    command, env = shim.command(container, "start"), shim.environment()
    try:
        began = time.perf_counter()
        output = devnull_start(command, directory, env)
        took = time.perf_counter() - began
        shim.kill_daemons(container)
        shim.delete(container, directory)
        socket_of(output.decode()).unlink(missing_ok=True)
    finally:
        bundle.close()
        shutil.rmtree(directory)
    return took * 1000


def _floor() -> float:
    command = [str(paths.BUILD / "venv" / "bin" / "python"), "-I", "-S", "-c", "pass"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return (time.perf_counter() - began) * 1000
