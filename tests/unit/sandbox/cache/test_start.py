"""Contract: a VM of the cache that is of no use is ended and the start goes on; what fails otherwise fails at once."""

from __future__ import annotations

from types import SimpleNamespace

import anyio.lowlevel
import pytest

from sandbox import boot
from sandbox.cache import client
from sandbox.errors import SandboxError, UnavailableError
from sandbox.phases import Phases

pytestmark = pytest.mark.anyio


class FakeMachine:
    """A machine whose boot fails in one phase, or does not."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    async def boot(self, phases: Phases) -> None:
        await anyio.lowlevel.checkpoint()
        with phases.phase(self.failing or "adopt"):
            if self.failing:
                raise UnavailableError(f"{self.failing} failed")


class FakeCached:
    """Remembers that it was closed."""

    plan = None
    closed = False

    def close(self) -> None:
        self.closed = True


async def started(monkeypatch: pytest.MonkeyPatch, failing: str, cached: FakeCached | None, phases: Phases) -> object:
    async def take(*_: object) -> FakeCached | None:
        return cached

    monkeypatch.setattr(client, "take", take)
    machine = FakeMachine(failing)
    pod = SimpleNamespace(directory=None, make_machine=lambda *_: machine)
    return await boot._cached(pod, SimpleNamespace(cache=object()), phases, None) and machine


async def test_a_vm_that_works_is_the_machine_and_its_asking_is_a_phase(monkeypatch):
    cached, phases = FakeCached(), Phases()

    assert await started(monkeypatch, "", cached, phases)

    assert cached.closed
    assert "cache" in phases.durations


async def test_without_a_vm_there_is_no_machine_yet(monkeypatch):
    assert await started(monkeypatch, "", None, Phases()) is None


@pytest.mark.parametrize("phase", ["adopt", "hotplug", "agent", "identity"])
async def test_a_vm_that_fails_is_ended_and_the_start_goes_on(monkeypatch, phase):
    cached, phases = FakeCached(), Phases()

    assert await started(monkeypatch, phase, cached, phases) is None

    assert cached.closed
    assert phases.failed is None


@pytest.mark.parametrize("phase", ["share", "network", "guest"])
async def test_what_would_fail_with_a_boot_too_fails(monkeypatch, phase):
    cached = FakeCached()

    with pytest.raises(SandboxError, match=phase):
        await started(monkeypatch, phase, cached, Phases())

    assert cached.closed
