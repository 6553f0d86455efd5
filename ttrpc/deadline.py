"""The point in time by which a call must end, with the interface of `grpclib.metadata.Deadline`."""

from __future__ import annotations

import time
from typing import Protocol

_NANOS = 1_000_000_000
_INT64_MAX = (1 << 63) - 1


class DeadlineLike(Protocol):
    """Any deadline: ours, or grpclib's where gRPC and ttrpc meet in one program."""

    def time_remaining(self) -> float:
        """Return the seconds left, never less than 0."""


class Deadline:
    """A fixed point on the monotonic clock."""

    __slots__ = ("when",)

    def __init__(self, when: float) -> None:
        self.when = when

    @classmethod
    def from_timeout(cls, timeout: float) -> Deadline:
        """Return the deadline `timeout` seconds from now."""
        return cls(time.monotonic() + timeout)

    def time_remaining(self) -> float:
        """Return the seconds left, never less than 0."""
        return max(0.0, self.when - time.monotonic())


def earliest(timeout: float | None, deadline: DeadlineLike | None) -> Deadline | None:
    """Return the earlier of the two limits, or None when there is neither."""
    limits = [] if timeout is None else [timeout]
    if deadline is not None:
        limits.append(deadline.time_remaining())
    return Deadline.from_timeout(min(limits)) if limits else None


def to_nanos(seconds: float) -> int:
    """Return a `timeout_nano` for `seconds`: at least 1 (0 would mean "none"), and at most what an int64 holds."""
    if seconds * _NANOS >= _INT64_MAX:
        return _INT64_MAX
    return max(1, int(seconds * _NANOS))
