"""Nothing is left: the difference of two inventories, given the time that orderly teardown may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.harness.inventory import Inventory, Scope, take

#: Seconds that teardown may go on after the last call has been answered: containerd's own clean-up budget is 5.
SETTLE_TIMEOUT = 10.0

_INTERVAL = 0.1


class LeakError(AssertionError):
    """Something was left behind; the message lists all of it."""


def difference(before: Inventory, after: Inventory) -> dict[str, list[str]]:
    """What is in `after` and was not in `before`, by kind; of paths below each other only the topmost is named.

    A kind that only one of them has was not looked at in the other, and is not judged.
    """
    left = {}
    for kind in judged(before, after):
        known, items = before[kind], after[kind]
        new = {key: text for key, text in items.items() if key not in known}
        if new:
            left[kind] = sorted(text for key, text in new.items() if not _has_parent_in(key, new))
    return left


def judged(before: Inventory, after: Inventory) -> list[str]:
    """The kinds that both inventories have."""
    return [kind for kind in after if kind in before]


def _has_parent_in(key: str, keys: dict[str, str]) -> bool:
    return key.startswith("/") and any(str(parent) in keys for parent in Path(key).parents)


def report(left: dict[str, list[str]]) -> str:
    """The difference, a line for each thing."""
    return "\n".join(f"  {kind}: {text}" for kind, texts in left.items() for text in texts)


class LeakCheck:
    """Life: made (takes the first inventory), then `assert_clean` any number of times.

    `judged` are the kinds that the last look compared: all, unless another bed was in use.
    """

    def __init__(self, scope: Callable[[], Scope]) -> None:
        self._scope = scope
        self._before = take(scope())
        self.judged = list(self._before)

    def wait_clean(self, timeout: float = SETTLE_TIMEOUT) -> dict[str, list[str]]:
        """What is left after at most `timeout` seconds; empty as soon as nothing is."""
        deadline = time.monotonic() + timeout
        while True:
            now = take(self._scope())
            self.judged = judged(self._before, now)
            left = difference(self._before, now)
            if not left or time.monotonic() >= deadline:
                return left
            time.sleep(_INTERVAL)

    def assert_clean(self, timeout: float = SETTLE_TIMEOUT) -> None:
        """Raise `LeakError` with everything that is still there after `timeout` seconds."""
        left = self.wait_clean(timeout)
        if left:
            raise LeakError(f"left behind (still there after {timeout:g} s):\n{report(left)}")
