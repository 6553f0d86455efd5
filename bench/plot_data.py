"""What the plots show, from the results: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.outcome import Outcome
from bench.start_records import TOTAL

#: Phases with others beside them: they are not parts of the whole that could be added up.
BESIDE = ("share", "network")

#: The part of a start that is in no phase of the stack.
OTHER = "between"

#: Units of time, of which distributions are shown.
_TIMES = ("µs", "ms", "s")
_FEWEST = 10


@dataclass(frozen=True)
class Stack:
    """A kind of start: its phases in their order, and those that ran beside others; seconds."""

    kind: str
    total: float
    parts: Sequence[tuple[str, float]]
    beside: Sequence[tuple[str, float]]


def stacks(outcomes: Sequence[Outcome]) -> list[Stack]:
    """A stack for each kind of start, the slowest first; of several results of a kind the last one's."""
    found = {kind: _stack(kind, phases) for one in outcomes for kind, phases in one.phases.items() if phases}
    return sorted(found.values(), key=lambda stack: -stack.total)


def _stack(kind: str, phases: Mapping[str, float]) -> Stack:
    total = phases[TOTAL]
    parts = [(name, seconds) for name, seconds in phases.items() if name != TOTAL and name not in BESIDE]
    rest = total - sum(seconds for _, seconds in parts)
    if rest > 0:
        parts.append((OTHER, rest))
    return Stack(kind, total, parts, [(name, phases[name]) for name in BESIDE if name in phases])


@dataclass(frozen=True)
class Distribution:
    """The samples of several subjects, in order of size, in one unit."""

    title: str
    unit: str
    subjects: Mapping[str, Sequence[float]]


def distributions(outcomes: Sequence[Outcome]) -> list[Distribution]:
    """All results in units of time of which there are samples enough to have a distribution."""
    found = []
    for one in outcomes:
        subjects = {name: sorted(samples) for name, samples in one.series.items() if len(samples) >= _FEWEST}
        if subjects and one.unit in _TIMES:
            found.append(Distribution(one.title, one.unit, subjects))
    return found


def shares(count: int) -> list[float]:
    """Which share of so many samples is at or below each of them, in order of size."""
    return [(index + 1) / count for index in range(count)]


def is_wide(samples: Sequence[float]) -> bool:
    """Whether samples of several subjects differ so much that only a logarithmic scale shows them all."""
    return bool(samples) and min(samples) > 0 and max(samples) / min(samples) > 20


def memory(outcomes: Sequence[Outcome]) -> dict[str, list[tuple[int, float]]]:
    """Megabytes for each pod by the number of pods, by part."""
    return {part: sorted(points) for one in outcomes for part, points in one.by_pods.items()}
