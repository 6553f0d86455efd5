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


def swap_limit(value: int, is_ours: bool) -> int:
    """A limit of swap, which our agent tells as it is: 0 is no swap at all."""
    return 0 if is_ours and value == 0 else limit(value)


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


def total_of(stats: Mapping[str, int], name: str) -> int:
    """A value of `memory.stat` that later kernels split into one for files and one for the rest."""
    return stats[name] if name in stats else stats.get(f"{name}_anon", 0) + stats.get(f"{name}_file", 0)


def is_version_1(stats: Mapping[str, int]) -> bool:
    """Whether `memory.stat` is that of cgroup v1, which counts swap together with memory."""
    return "anon" not in stats and ("rss" in stats or "total_rss" in stats)


def with_swap(memory: int, swap: int) -> int:
    """A limit of memory and swap together (v1's) from one of each; `UNLIMITED` if one of them is."""
    return min(memory + swap, UNLIMITED) if UNLIMITED not in (memory, swap) else UNLIMITED


def swap_alone(memory: int, both: int) -> int:
    """A limit of swap (v2's) from those of memory and of both together."""
    return max(0, both - memory) if UNLIMITED not in (memory, both) else UNLIMITED
