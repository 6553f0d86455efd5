"""Points in time as whole nanoseconds since 1970-01-01T00:00:00Z, and as the message that carries them.

Seconds may be negative while nanos never are: one nanosecond before 1970 is (-1 s, 999999999 ns). Events and exit
times carry nanoseconds, and Go's zero time (the year 1) stands for "never", so neither floats nor datetimes will do.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protos.gen.wellknown import Timestamp
    from protos.lean.gen import wellknown as lean

# 0001-01-01T00:00:00Z, what a Go program sends for a time that was never set.
GO_ZERO_NS = -62_135_596_800 * 1_000_000_000

_SECOND = 1_000_000_000


def split(nanoseconds: int) -> tuple[int, int]:
    """The seconds and nanos of a time: the fields of a Timestamp, of either flavour."""
    return divmod(nanoseconds, _SECOND)


def from_ns(nanoseconds: int) -> Timestamp:
    """The (rich) message for a time in nanoseconds since 1970."""
    from protos.gen.wellknown import Timestamp

    seconds, nanos = split(nanoseconds)
    return Timestamp(seconds=seconds, nanos=nanos)


def to_ns(timestamp: Timestamp | lean.Timestamp) -> int:
    """The time of a message in nanoseconds since 1970; exact, also before 1970 and for nanos out of their range."""
    return timestamp.seconds * _SECOND + timestamp.nanos


def now() -> Timestamp:
    """The current time."""
    return from_ns(time.time_ns())
