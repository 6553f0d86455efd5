"""How long processes waited for memory: the kernel's pressure stall information (Documentation/accounting/psi.rst)."""

from __future__ import annotations

import time
from collections.abc import Callable

_MICROSECONDS = 1_000_000


class Pressure:
    """The share of time, since the last question, in which something waited for memory in one cgroup."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`path` is a file such as /proc/pressure/memory or a cgroup's memory.pressure."""
        self._path = path
        self._clock = clock
        self._asked, self._total = clock(), stalled(self._read())

    def percent(self) -> float:
        """0 to 100; 0 where the kernel does not tell."""
        now, total = self._clock(), stalled(self._read())
        elapsed = (now - self._asked) * _MICROSECONDS
        share = 100 * (total - self._total) / elapsed if elapsed > 0 else 0.0
        self._asked, self._total = now, total
        return min(100.0, max(0.0, share))

    def _read(self) -> str:
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                return file.read(4096)
        except OSError:
            return ""


def stalled(text: str) -> int:
    """The microseconds of `some ... total=` in a pressure file; 0 if there are none."""
    for line in text.splitlines():
        kind, *pairs = line.split()
        value = next((pair[6:] for pair in pairs if pair.startswith("total=")), "")
        if kind == "some" and value.isdigit():
            return int(value)
    return 0
