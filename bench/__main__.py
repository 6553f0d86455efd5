"""Runs the benchmarks, each in a process of its own, and writes `bench/results`: JSON files, plots and a page.

One that fails is reported with its reason, and the others go on; its last result stays. Nothing may be left on the
machine by any of them, nor after Ctrl-C.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from bench import plots, report, supervised
from bench.catalogue import BY_NAME, CATALOGUE, Benchmark, belongs_to
from bench.one import BED
from tests.harness import leaks, paths
from tests.harness.bed import missing_here, other_beds
from tests.harness.inventory import Scope

RESULTS = Path(__file__).parent / "results"
LOGS = paths.BUILD / "log"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(BY_NAME)}")
    parser.add_argument("--effort", type=float, default=1.0, help="how many rounds, relative to the normal number")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    parser.add_argument("--page", action="store_true", help="run none: draw and write the page of what there is")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in BY_NAME]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)} (there are {', '.join(BY_NAME)})")
    return chosen


def run_one(benchmark: Benchmark, effort: float, out: Path) -> str:
    """Run a benchmark and put its results into `out`; why it failed, or nothing if it did not."""
    check = leaks.LeakCheck(_scope)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        command = [sys.executable, "-m", "bench.one", benchmark.name, "--effort", str(effort), "--out", scratch]
        # The limit is that of the normal effort.
        try:
            ended = supervised.run(command, LOGS / f"bench-{benchmark.name}.log", benchmark.limit * max(1.0, effort))
        except KeyboardInterrupt:
            print(f"\n{_left(check)}", flush=True)
            raise
        out.mkdir(parents=True, exist_ok=True)
        for path in Path(scratch).iterdir():
            shutil.copy(path, out)
    print(f"{ended.seconds:.1f} s", flush=True)
    reasons = [f"not done within {benchmark.limit:g} s"] * ended.late
    reasons += [ended.last_line] * (ended.status != 0)
    return "; ".join(text for text in (*reasons, _left(check)) if text)


def _left(check: leaks.LeakCheck) -> str:
    """What a benchmark has left on the machine, in one line; empty if nothing."""
    left = check.wait_clean()
    return f"left on the machine: {' '.join(leaks.report(left).split())}" if left else ""


def _scope() -> Scope:
    directory = paths.BEDS / BED
    return Scope(bed=directory, alone=not other_beds(directory))


def write_page(out: Path) -> None:
    """Draw the plots and write the page of all results in `out`."""
    records = report.load(out)
    outcomes = [record.outcome for record in records]
    try:
        plots.draw_all(outcomes, out)
    except plots.NoPlotsError as error:
        print(f"   no new plots: {error}")
    pictures = [name for name in plots.NAMES if (out / name).exists()]
    (out / "README.md").write_text(report.page(records, pictures))
    print(f"\n{report.bars_table([(one.name, bar) for one in outcomes for bar in one.bars])}\n\n   written to {out}")


def run_all(benchmarks: list[Benchmark], effort: float, out: Path) -> list[str]:
    """Run them one after the other, with a line for each; what failed, a line each."""
    failures = []
    for benchmark in benchmarks:
        print(f"   {benchmark.name} ... ", end="", flush=True)
        if reason := run_one(benchmark, effort, out):
            failures.append(f"{benchmark.name} failed: {reason} ({LOGS / f'bench-{benchmark.name}.log'})")
            print(f"   {failures[-1]}", flush=True)
    return failures


def main() -> int:
    """Run; 0 if every bar is met, 1 if one is not or a benchmark fails, 2 if this machine can't run them."""
    chosen = parse()
    if not chosen.page and (missing := missing_here()):
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    supervised.be_interruptible()
    names = set(chosen.names) or set(BY_NAME)
    wanted = [] if chosen.page else [benchmark for benchmark in CATALOGUE if benchmark.name in names]
    print("\n== benchmarks", flush=True)
    try:
        failures = run_all(wanted, chosen.effort, chosen.out)
    except KeyboardInterrupt:
        print("\nbench: interrupted", file=sys.stderr)
        return 130
    write_page(chosen.out)
    outcomes = [record.outcome for record in report.load(chosen.out) if belongs_to(record.outcome.name) in names]
    missed = [f"{one.name}: {bar}" for one in outcomes for bar in one.bars if not bar.met]
    for text in (*failures, *missed):
        print(f"bench: {text}", file=sys.stderr)
    return 1 if failures or missed else 0


if __name__ == "__main__":
    sys.exit(main())
