"""The deadlines of a connection's calls, on one timer of the event loop.

A loop's timer costs as much as the rest of a short call, and almost every call has a deadline that it does not reach.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Protocol


class Expiring(Protocol):
    """What has a deadline."""

    def expire(self) -> None:
        """Act on the deadline's passing."""


class Alarm:
    """Calls `expire` of each item whose time, on the monotonic clock, has come; a few milliseconds late at most.

    The timer is set for the earliest item; it is left alone when that goes, and rings in vain.
    """

    __slots__ = ("_items", "_loop", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: dict[Expiring, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._when = math.inf

    def start(self, item: Expiring, when: float) -> None:
        """Have `item` expire at `when`."""
        self._items[item] = when
        if when < self._when:
            self._set(when)

    def stop(self, item: Expiring) -> None:
        """Let `item` live; nothing happens if it has no deadline or has expired."""
        self._items.pop(item, None)

    def clear(self) -> None:
        """Forget all items and the timer."""
        self._items.clear()
        self._when = math.inf
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._when = when
        # A millisecond on top: uvloop's timers are that coarse, and one that rings early would have to be set again.
        self._timer = self._loop.call_later(max(0.0, when - time.monotonic()) + 0.001, self._ring)

    def _ring(self) -> None:
        self._when = math.inf
        now = time.monotonic()
        for item in [item for item, when in self._items.items() if when <= now]:
            if self._items.pop(item, None) is not None:
                item.expire()
        if self._items:
            self._set(min(self._items.values()))
