"""Contract: a VM of the cache that is of no use is ended and the start goes on; what fails otherwise fails at once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sandbox import boot
from sandbox.cache import client
from sandbox.errors import SandboxError
from sandbox.phases import Phases
from tests.fakes.starting import FakeMachine, FakePod, FakeReady

pytestmark = pytest.mark.anyio


async def started(
    monkeypatch: pytest.MonkeyPatch, machine: FakeMachine, cached: FakeReady | None, phases: Phases
) -> object:
    async def take(*_: object) -> FakeReady | None:
        return cached

    monkeypatch.setattr(client, "take", take)
    return await boot._cached(FakePod(machine), SimpleNamespace(cache=object()), phases, None)


async def test_a_vm_that_works_is_the_machine_and_its_asking_is_a_phase(monkeypatch):
    machine, cached, phases = FakeMachine(), FakeReady(), Phases()

    assert await started(monkeypatch, machine, cached, phases) is machine

    assert cached.closed
    assert "cache" in phases.durations


async def test_without_a_vm_there_is_no_machine_yet(monkeypatch):
    assert await started(monkeypatch, FakeMachine(), None, Phases()) is None


@pytest.mark.parametrize("phase", ["adopt", "hotplug", "agent", "identity"])
async def test_a_vm_that_fails_is_ended_and_the_start_goes_on(monkeypatch, phase):
    cached, phases = FakeReady(), Phases()

    assert await started(monkeypatch, FakeMachine(phase), cached, phases) is None

    assert cached.closed
    assert phases.failed is None


@pytest.mark.parametrize("phase", ["share", "network", "guest"])
async def test_what_would_fail_with_a_boot_too_fails(monkeypatch, phase):
    cached = FakeReady()

    with pytest.raises(SandboxError, match=phase):
        await started(monkeypatch, FakeMachine(phase), cached, Phases())

    assert cached.closed
