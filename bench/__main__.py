"""Runs the benchmarks and writes `bench/results/<name>.json`, and a page of tables, `bench/results/README.md`."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import (
    agent_exec,
    agent_memory,
    agent_rpc,
    agent_stdout,
    cold_create,
    exec_latency,
    machine,
    memory,
    network,
    start_latency,
    state_latency,
    template_start,
)
from bench.outcome import Outcome
from bench.subjects import Context, running_pair
from tests.harness.bed import BedError, missing_here, open_bed

RESULTS = Path(__file__).parent / "results"

#: Benchmarks in the order they run: first those that make their own shims or guests, then those that share a pair of
#: containers.
ALONE: dict[str, Callable[[Context], Awaitable[Outcome]]] = {
    "start": start_latency.run,
    "create": cold_create.run,
    "template": template_start.run,
    "agent-rpc": agent_rpc.run,
    "agent-stdout": agent_stdout.run,
    "agent-exec": agent_exec.run,
    "agent-memory": agent_memory.run,
    "network": network.run,
}
SHARED = {"state": state_latency.run, "exec": exec_latency.run, "memory": memory.run}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join((*ALONE, *SHARED))}")
    parser.add_argument("--effort", type=float, default=1.0, help="how many rounds, relative to the normal number")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in {**ALONE, **SHARED}]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)} (there are {', '.join((*ALONE, *SHARED))})")
    return chosen


async def run_all(context: Context, wanted: set[str]) -> list[Outcome]:
    """Run what is wanted, one after the other, with a line for each."""
    outcomes = []
    for name, alone in ALONE.items():
        if name in wanted:
            outcomes.append(await _timed(name, alone(context)))
    if wanted & SHARED.keys():
        with running_pair(context.bed) as pair:
            for name, shared in SHARED.items():
                if name in wanted:
                    outcomes.append(await _timed(name, shared(context, pair)))
    return outcomes


async def _timed(name: str, benchmark: Awaitable[Outcome]) -> Outcome:
    print(f"   {name} ... ", end="", flush=True)
    began = time.monotonic()
    outcome = await benchmark
    print(f"{time.monotonic() - began:.1f} s", flush=True)
    return outcome


def write(outcomes: list[Outcome], described: dict[str, str], directory: Path) -> str:
    """Write a JSON file for each outcome and the table of all; returns the table."""
    directory.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        text = json.dumps({"machine": described, **outcome.to_json()}, indent=1)
        (directory / f"{outcome.name}.json").write_text(text + "\n")
    facts = "\n".join(f"- {key}: {value}" for key, value in described.items())
    table = "\n".join(outcome.to_markdown() for outcome in outcomes)
    page = f"# Benchmarks\n\nMade by `make bench`.\n\n{facts}\n\n{table}"
    (directory / "README.md").write_text(page)
    return table


def main() -> int:
    """Run; 0 if every bar is met, 1 if one is not or a benchmark fails, 2 if this machine can't run them."""
    chosen = parse()
    if missing := missing_here():
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    wanted = set(chosen.names) or {*ALONE, *SHARED}
    described = machine.describe()
    print("\n== benchmarks", flush=True)
    try:
        with open_bed("bench") as bed:
            directory = bed.directory / "work"
            directory.mkdir()
            outcomes = asyncio.run(run_all(Context(bed, directory, chosen.effort), wanted))
            shutil.rmtree(directory)
    except BedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(f"\n{write(outcomes, described, chosen.out)}\n   written to {chosen.out}")
    missed = [str(bar) for outcome in outcomes for bar in outcome.bars if not bar.met]
    for text in missed:
        print(f"bench: {text}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
