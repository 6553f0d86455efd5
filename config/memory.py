"""What was read from files that have not changed since, for those who are forked by who has read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
#: A file that has changed within so many seconds may change again without its times telling.
UNSETTLED = 2.0


class Memory(Generic[T]):
    """The last value that was made of some files."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._prints: tuple[tuple[str, int, int, int, int], ...] = ()
        self._value: T | None = None

    def recall(self, files: Sequence[Path], make: Callable[[], T]) -> T:
        """What was made of these very files, or what `make` gives now, whose errors are raised."""
        prints = tuple(map(_print, files))
        if self._value is not None and prints == self._prints:
            return self._value
        value = make()
        newest = max((times for one in prints for times in one[3:]), default=0)
        is_settled = newest < (self._clock() - UNSETTLED) * 1e9
        self._prints, self._value = (prints, value) if is_settled else ((), None)
        return value


def _print(path: Path) -> tuple[str, int, int, int, int]:
    """What changes with a file; of one that is gone, nothing does."""
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0, 0, 0
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
