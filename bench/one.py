"""One benchmark in a process and a bed of its own: `python -m bench.one NAME --out DIRECTORY`.

Writes a JSON file for each of its tables into the directory. It fails with its reason as the last line of its output;
what it leaves on the machine is a failure, too, but its figures count.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from bench import machine, supervised
from bench.catalogue import BY_NAME, Benchmark
from bench.report import save
from bench.subjects import Context
from tests.harness import processes
from tests.harness.bed import NAMESPACES, Bed, BedError, open_bed
from tests.harness.command import CommandError
from tests.harness.leaks import LeakCheck, LeakError, report

#: Name of the bed of all benchmarks: one runs at a time.
BED = "bench"

#: Seconds that may go by until nothing is left of a benchmark that was interrupted, or failed.
SETTLE = 45.0


def main() -> int:
    """Run it; 0 if it has run, 1 if it failed or left something, 2 if there is no bed for it."""
    parser = argparse.ArgumentParser(prog="python -m bench.one", description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=BY_NAME, metavar="NAME")
    parser.add_argument("--effort", type=float, default=1.0)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    supervised.be_interruptible()
    try:
        measure(BY_NAME[chosen.name], chosen.effort, chosen.out)
    except BedError as error:
        print(error)
        return 2
    except LeakError as error:
        print(" ".join(str(error).split()))
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted")
        return 1
    except Exception as error:  # noqa: BLE001 (whatever it is, the other benchmarks go on)
        traceback.print_exc(file=sys.stdout)
        print(f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    return 0


def measure(benchmark: Benchmark, effort: float, out: Path) -> None:
    """Run a benchmark and save what it gives; raises whatever it fails with, and `LeakError`."""
    described = machine.describe()
    with open_bed(BED) as bed:
        check = bed.leak_check()
        directory = bed.directory / "work"
        directory.mkdir()
        try:
            outcomes = asyncio.run(benchmark.run(Context(bed, directory, effort)))
        except BaseException:
            settle(bed, check)
            raise
        for outcome in outcomes:
            save(outcome, described, out)
        shutil.rmtree(directory)
        check.assert_clean()


def settle(bed: Bed, check: LeakCheck, timeout: float = SETTLE) -> None:
    """After a benchmark that did not come to its end: remove its containers, those too that were just being made.

    What is made when its client goes is undone by containerd, which takes its time, and needs the bed for it. Returns
    when nothing is left, or after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while left := check.wait_clean(1.0):
        _reap()
        if time.monotonic() > deadline:
            print(f"not gone after {timeout:g} s:\n{report(left)}")
            return
        for namespace in NAMESPACES:
            ctr = bed.ctr(namespace)
            for container in ctr.containers():
                with suppress(CommandError):
                    ctr.remove(container)


def _reap() -> None:
    """Collect children that have ended: an interrupted `subprocess.run` kills its own, and does not wait for it."""
    for one in processes.descendants([os.getpid()]):
        if one.parent == os.getpid() and one.state == "Z":
            os.waitpid(one.pid, os.WNOHANG)


if __name__ == "__main__":
    sys.exit(main())
