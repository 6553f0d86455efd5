"""What `sandbox.boot` tries a start with: a machine that fails in one phase, or in none, and what its VM comes from."""

from __future__ import annotations

import anyio.lowlevel

from sandbox.errors import UnavailableError
from sandbox.phases import Phases


class FakeMachine:
    """A machine whose boot fails in the phase `failing`, if that has a name."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing

    async def boot(self, phases: Phases) -> None:
        await anyio.lowlevel.checkpoint()
        with phases.phase(self.failing or "vm"):
            if self.failing:
                raise UnavailableError(f"{self.failing} failed")


class FakeReady:
    """A clone, or a VM of the cache, that remembers what became of it."""

    plan = None

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.closed = False

    def drop(self, why: str) -> None:
        self.dropped.append(why)

    def close(self) -> None:
        self.closed = True


class FakePod:
    """What `boot` needs of a pod."""

    directory = None

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    def make_machine(self, *_: object) -> FakeMachine:
        return self._machine
