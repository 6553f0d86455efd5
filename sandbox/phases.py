"""The named, timed steps of a start: in the log, and in the error when one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

#: The phase in which a start waits for its turn (`sandbox.turns`).
QUEUE: Final = "queue"


@dataclass(frozen=True)
class StartRecord:
    """How the start of a sandbox went: durations in seconds, by phase and in all; `at` is its end, by the clock."""

    #: Whether the VM was booted (`cold`), or restored, and from where.
    kind: str
    at: float
    total: float
    durations: Mapping[str, float]
    #: What QEMU had read from disk until then.
    read_bytes: int = 0

    def fact(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)


class Phases:
    """Durations of a start's steps, in seconds. Steps may run side by side; the first that fails is remembered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self.durations: dict[str, float] = {}
        self.failed: str | None = None
        self._open: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body as phase `name`."""
        began = self._clock()
        self._open.append(name)
        try:
            yield
        except BaseException:
            self.failed = self.failed or name
            raise
        finally:
            self._open.remove(name)
            self.durations[name] = self._clock() - began

    def forgive(self) -> None:
        """The step that failed is made good by another way: the start goes on."""
        self.failed = None

    @property
    def current(self) -> str:
        """Where the start is, or where it failed."""
        if self.failed:
            return self.failed
        return self._open[-1] if self._open else "idle"

    @property
    def total(self) -> float:
        """Seconds since the start began."""
        return self._clock() - self._began

    def record(self, kind: str, read_bytes: int = 0) -> StartRecord:
        """What there is to keep of a start of this kind that has just succeeded."""
        durations = {name: round(seconds, 6) for name, seconds in self.durations.items()}
        return StartRecord(kind, time.time(), round(self.total, 6), durations, read_bytes)

    def fields(self) -> dict[str, object]:
        """What the log tells of them."""
        return {"total": f"{self.total:.3f}s", "phases": str(self)}

    def __str__(self) -> str:
        return " ".join(f"{name}={seconds:.3f}" for name, seconds in self.durations.items())
