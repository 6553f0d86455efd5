"""Contract: a pod whose clone fails boots, if that may help; what fails for another reason fails at once."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

import pytest

from sandbox import boot
from sandbox.errors import SandboxError
from sandbox.phases import Phases
from tests.fakes.starting import FakeMachine, FakePod, FakeReady

pytestmark = pytest.mark.anyio


async def restored(machine: FakeMachine, clone: FakeReady | None, phases: Phases) -> object:
    return await boot._restored(FakePod(machine), SimpleNamespace(clone=lambda: clone), phases)


async def test_a_clone_that_works_is_the_machine():
    machine, clone = FakeMachine(), FakeReady()

    assert await restored(machine, clone, Phases()) is machine
    assert (clone.dropped, clone.closed) == ([], True)


async def test_without_a_template_there_is_no_machine_yet():
    assert await restored(FakeMachine(), None, Phases()) is None


@pytest.mark.parametrize("phase", ["memory", "restore", "hotplug", "agent", "identity"])
async def test_a_template_that_fails_is_dropped_and_the_start_goes_on(phase):
    clone, phases = FakeReady(), Phases()

    assert await restored(FakeMachine(phase), clone, phases) is None

    assert (clone.dropped, clone.closed) == ([f"{phase} failed"], True)
    assert phases.failed is None


@pytest.mark.parametrize("phase", ["share", "network", "guest"])
async def test_what_would_fail_with_a_boot_too_fails_and_the_template_stays(phase):
    clone = FakeReady()

    with pytest.raises(SandboxError, match=phase):
        await restored(FakeMachine(phase), clone, Phases())

    assert (clone.dropped, clone.closed) == ([], True)


async def test_a_start_that_is_given_up_leaves_the_template():
    clone = FakeReady()

    class Cancelled(FakeMachine):
        async def boot(self, phases: Phases) -> None:
            raise TimeoutError

    with suppress(TimeoutError):
        await restored(Cancelled(), clone, Phases())

    assert (clone.dropped, clone.closed) == ([], True)
