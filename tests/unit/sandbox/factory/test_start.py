"""Contract: a pod whose clone fails boots, if that may help; what fails for another reason fails at once."""

from __future__ import annotations

from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from sandbox import boot
from sandbox.errors import SandboxError, UnavailableError
from sandbox.phases import Phases

pytestmark = pytest.mark.anyio


class FakeMachine:
    """A machine whose boot fails in one phase, or does not."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    async def boot(self, phases: Phases) -> None:
        await anyio.lowlevel.checkpoint()
        with phases.phase(self.failing or "restore"):
            if self.failing:
                raise UnavailableError(f"{self.failing} failed")


class FakeClone:
    """Remembers what became of it."""

    plan = None

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.closed = False

    def drop(self, why: str) -> None:
        self.dropped.append(why)

    def close(self) -> None:
        self.closed = True


class FakeTemplates:
    """Has one clone to give, or none."""

    def __init__(self, clone: FakeClone | None) -> None:
        self._clone = clone

    def clone(self) -> FakeClone | None:
        return self._clone


class FakePod:
    """What `boot` needs of a pod."""

    directory = None

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    def make_machine(self, *_: object) -> FakeMachine:
        return self._machine


async def restored(machine: FakeMachine, clone: FakeClone | None, phases: Phases) -> object:
    return await boot._restored(FakePod(machine), FakeTemplates(clone), phases)


async def test_a_clone_that_works_is_the_machine():
    machine, clone = FakeMachine(""), FakeClone()

    assert await restored(machine, clone, Phases()) is machine
    assert (clone.dropped, clone.closed) == ([], True)


async def test_without_a_template_there_is_no_machine_yet():
    assert await restored(FakeMachine(""), None, Phases()) is None


@pytest.mark.parametrize("phase", ["memory", "restore", "hotplug", "agent", "identity"])
async def test_a_template_that_fails_is_dropped_and_the_start_goes_on(phase):
    clone, phases = FakeClone(), Phases()

    assert await restored(FakeMachine(phase), clone, phases) is None

    assert (clone.dropped, clone.closed) == ([f"{phase} failed"], True)
    assert phases.failed is None


@pytest.mark.parametrize("phase", ["share", "network", "guest"])
async def test_what_would_fail_with_a_boot_too_fails_and_the_template_stays(phase):
    clone = FakeClone()

    with pytest.raises(SandboxError, match=phase):
        await restored(FakeMachine(phase), clone, Phases())

    assert (clone.dropped, clone.closed) == ([], True)


async def test_a_start_that_is_given_up_leaves_the_template():
    clone = FakeClone()

    class Cancelled(FakeMachine):
        async def boot(self, phases: Phases) -> None:
            raise TimeoutError

    with suppress(TimeoutError):
        await restored(Cancelled(""), clone, Phases())

    assert (clone.dropped, clone.closed) == ([], True)
