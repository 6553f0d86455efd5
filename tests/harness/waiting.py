"""Waiting for a condition with a deadline, so that nothing sleeps for a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks at a condition.
INTERVAL = 0.02


class WaitTimeoutError(AssertionError):
    """The condition did not come true in its time."""


def eventually(probe: Callable[[], T], what: str, timeout: float = 30.0, interval: float = INTERVAL) -> T:
    """Call `probe` until it returns something true, and return that.

    Raises `WaitTimeoutError` naming `what` and the last value after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"{what}: not within {timeout:g} s (last seen: {value!r})")
        time.sleep(interval)


async def eventually_async(
    probe: Callable[[], Awaitable[T]], what: str, timeout: float = 30.0, interval: float = INTERVAL
) -> T:
    """`eventually` for a probe that awaits."""
    deadline = time.monotonic() + timeout
    while True:
        value = await probe()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"{what}: not within {timeout:g} s (last seen: {value!r})")
        await asyncio.sleep(interval)
