"""The settings of both jobs: Kata's names, defaults and meanings. Pure.

A job begins as disabled, for nothing in this guest's boot parameters asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from guest.agent.errors import InvalidArgumentError

if TYPE_CHECKING:
    from protos.lean.gen.grpc import MemAgentCompactConfig, MemAgentMemcgConfig

NEVER = (1 << 64) - 1
_PERIOD = (1, 7 * 24 * 3600)
_PERCENT = (0, 100)
_ANY = (0, NEVER)


class Settings:
    """A set of named whole numbers, each within its bounds; `disabled` and `swap` are truth values."""

    BOUNDS: ClassVar[dict[str, tuple[int, int]]] = {}

    disabled: bool
    period_secs: int
    period_psi_percent_limit: int

    def changed(self, message: MemAgentCompactConfig | MemAgentMemcgConfig) -> dict[str, Any]:
        """The values that `message` sets; raises `InvalidArgumentError` for one out of bounds."""
        values = {name: getattr(message, name) for name in message.__slots__}
        values = {name: value for name, value in values.items() if value is not None}
        for name, value in values.items():
            low, high = self.BOUNDS.get(name, (0, 1))
            if not low <= value <= high:
                raise InvalidArgumentError(f"{name} is {value}, not {low} to {high}")
        return values

    def update(self, values: dict[str, Any]) -> None:
        """Take `values` over."""
        for name, value in values.items():
            setattr(self, name, value)


class ReclaimSettings(Settings):
    """How idle memory is reclaimed."""

    BOUNDS: ClassVar = {
        "swappiness_max": (0, 200),
        "period_secs": _PERIOD,
        "period_psi_percent_limit": _PERCENT,
        "eviction_psi_percent_limit": _PERCENT,
        "eviction_run_aging_count_min": _ANY,
    }

    def __init__(self) -> None:
        self.disabled = True
        #: Whether anonymous memory may go to swap.
        self.swap = False
        self.swappiness_max = 50
        self.period_secs = 600
        self.period_psi_percent_limit = 1
        #: Eviction stops when its own pressure is above that.
        self.eviction_psi_percent_limit = 1
        #: How often a cgroup's pages are aged before any is evicted.
        self.eviction_run_aging_count_min = 3


class CompactionSettings(Settings):
    """How free memory is compacted."""

    BOUNDS: ClassVar = {
        "period_secs": _PERIOD,
        "period_psi_percent_limit": _PERCENT,
        "compact_psi_percent_limit": _PERCENT,
        "compact_sec_max": (1, 3600),
        "compact_order": (1, 10),
        "compact_threshold": _ANY,
        "compact_force_times": _ANY,
    }

    def __init__(self) -> None:
        self.disabled = True
        self.period_secs = 600
        self.period_psi_percent_limit = 1
        #: Compaction stops when its own pressure is above that.
        self.compact_psi_percent_limit = 5
        self.compact_sec_max = 1800
        #: Free blocks of at least 2 to the power of that many pages are what is wanted; smaller ones are pieces.
        self.compact_order = 9
        #: By how many pages the pieces must have grown, or free memory shrunk, since the last time.
        self.compact_threshold = 2 << 9
        #: After that many turns without compaction it is done anyway.
        self.compact_force_times = NEVER
