"""When pods that were started together stood in line, had their turn and were up: by their journals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.phases import QUEUE


@dataclass(frozen=True)
class Boot:
    """One start of a pod; seconds of the clock. `turn` is when it might boot, `ready` when its sandbox was up."""

    arrival: float
    turn: float
    ready: float

    @classmethod
    def of(cls, journal: dict[str, Any]) -> Boot:
        """As a pod's journal tells; raises `KeyError` for one that is not up."""
        start = journal["started"]["start"]
        durations: dict[str, float] = start["durations"]
        names = list(durations)
        arrival = start["at"] - start["total"] + sum(durations[name] for name in names[: names.index(QUEUE)])
        return cls(arrival, arrival + durations[QUEUE], start["at"])


def most_at_once(boots: Iterable[Boot], tolerance: float) -> int:
    """How many booted at one moment; `tolerance` is how inexact, in seconds, the ends of a boot are."""
    moments = []
    for boot in boots:
        moments += [(boot.turn, 1), (max(boot.turn, boot.ready - tolerance), -1)]
    count = most = 0
    for _, change in sorted(moments):
        count += change
        most = max(most, count)
    return most


def overtaken(boots: Sequence[Boot], tolerance: float) -> int:
    """How many pairs had their turns against the order in which they came, by more than `tolerance` seconds."""
    pairs = ((one, other) for one in boots for other in boots if one.arrival + tolerance < other.arrival)
    return sum(one.turn > other.turn + tolerance for one, other in pairs)
