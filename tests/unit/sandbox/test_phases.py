"""Contract: every step of a start has a name and a duration, and a failed start names its step."""

from __future__ import annotations

import pytest

from sandbox.phases import Phases


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_durations_are_kept_by_name_and_rendered():
    clock = Clock()
    phases = Phases(clock)
    with phases.phase("vm"):
        clock.now += 1.5
        with phases.phase("agent"):
            clock.now += 0.25
    assert phases.durations == {"agent": 0.25, "vm": 1.75}
    assert str(phases) == "agent=0.250 vm=1.750"
    assert phases.total == 1.75


def test_the_innermost_failed_step_is_named():
    phases = Phases(Clock())
    with pytest.raises(ValueError, match="no"), phases.phase("outer"), phases.phase("inner"):
        raise ValueError("no")
    assert phases.current == "inner"


def test_the_current_step_is_the_latest_open_one():
    phases = Phases(Clock())
    assert phases.current == "idle"
    with phases.phase("vm"):
        assert phases.current == "vm"


def test_a_start_that_succeeded_is_kept_for_the_journal():
    clock = Clock()
    phases = Phases(clock)
    with phases.phase("vm"):
        clock.now += 1.5

    start = phases.record("cold", 4096)

    assert (start.kind, start.total, start.durations) == ("cold", 1.5, {"vm": 1.5})
    assert start.fact().keys() == {"kind", "at", "total", "durations", "read_bytes"}
