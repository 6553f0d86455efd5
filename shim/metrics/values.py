"""How the agent's numbers are read: what "unlimited" is, and the names that a value has in cgroup v1 and v2."""

from __future__ import annotations

from collections.abc import Mapping

#: How containerd's users recognise "no limit".
UNLIMITED = (1 << 64) - 1

#: Our guest's agent adds the counters of cgroup v2's memory.events under these names; Kata's protocol has no place for
#: them, so a stock agent tells none.
EVENTS_PREFIX = "memory.events."

# Kernels and agents say "no limit" as 0, as the largest page-aligned int64, or as -1.
_LARGEST_LIMIT = 1 << 62


def limit(value: int) -> int:
    """A limit in bytes; `UNLIMITED` where there is none."""
    return value if 0 < value <= _LARGEST_LIMIT else UNLIMITED


def memory_events(stats: Mapping[str, int]) -> dict[str, int]:
    """The counters of memory.events by their own names; empty if the agent does not tell them."""
    return {key.removeprefix(EVENTS_PREFIX): value for key, value in stats.items() if key.startswith(EVENTS_PREFIX)}


def first_of(stats: Mapping[str, int], names: tuple[str, ...]) -> int:
    """The first value of `memory.stat` that has one of these names; 0 if none is there, as the message has no
    absence.
    """
    for name in names:
        if name in stats:
            return stats[name]
    return 0
