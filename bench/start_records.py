"""How starts of sandboxes went, by the daemon's own clock: the record of each is in its journal while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.stats import median
from sandbox.rundir import ROOT
from tests.harness.ctr import Ctr

#: The name under which the whole of a start stands beside its phases.
TOTAL = "total"


@dataclass(frozen=True)
class Started:
    """A start: its kind (cold, template, cache), and its duration in seconds, in all and by phase."""

    kind: str
    total: float
    phases: Mapping[str, float]


def started(sandbox: str) -> Started:
    """The record of a running sandbox; raises `LookupError` if there is not exactly one of that name."""
    found = list(ROOT.glob(f"{sandbox}-????????"))
    if len(found) != 1:
        raise LookupError(f"{len(found)} run directories of sandbox {sandbox} instead of one")
    record = json.loads((found[0] / "state.json").read_text())["started"]["start"]
    return Started(record["kind"], float(record["total"]), record["durations"])


def median_phases(starts: Sequence[Started]) -> dict[str, float]:
    """The median of each phase, over the starts that have it, and of the whole; empty without starts."""
    if not starts:
        return {}
    names = dict.fromkeys(name for start in starts for name in start.phases)
    phases = {name: median([start.phases[name] for start in starts if name in start.phases]) for name in names}
    return {**phases, TOTAL: median([start.total for start in starts])}


@contextmanager
def resident(ctr: Ctr) -> Iterator[None]:
    """A pod that stays while others start and go, as on any node in use: so there is a fork server for them."""
    name = "resident"
    ctr.run_detached(name, "sleep", "100000")
    try:
        yield
    finally:
        ctr.remove(name)
