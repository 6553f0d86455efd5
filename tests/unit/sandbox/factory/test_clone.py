"""Contract: a clone gets random numbers of its own, then the time, which is set again while the agent is slow."""

from __future__ import annotations

import os
import time

import pytest

from sandbox.factory import clone as module
from sandbox.factory.clone import CLOCK_TRIES, SEED_SIZE, Clone

pytestmark = pytest.mark.anyio


class FakeAgent:
    """Takes the given seconds for each answer, by a clock of the test's."""

    def __init__(self, answers: list[float]) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        self.seeds: list[bytes] = []
        self.times: list[int] = []
        self._answers = answers

    async def reseed_random_dev(self, data: bytes) -> None:
        self.calls.append("reseed")
        self.seeds.append(data)

    async def set_guest_date_time(self, time_ns: int) -> None:
        self.calls.append("clock")
        self.times.append(time_ns)
        self.now += self._answers.pop(0)


async def identified(monkeypatch: pytest.MonkeyPatch, answers: list[float]) -> FakeAgent:
    agent = FakeAgent(answers)
    monkeypatch.setattr(module.time, "monotonic", lambda: agent.now)
    await Clone.identify(object.__new__(Clone), agent)
    return agent


async def test_the_seed_comes_first_and_the_clock_is_the_hosts(monkeypatch):
    before = time.time_ns()

    agent = await identified(monkeypatch, [0.01])

    assert agent.calls == ["reseed", "clock"]
    assert len(agent.seeds[0]) == SEED_SIZE
    assert before <= agent.times[0] <= time.time_ns()


async def test_two_clones_have_different_seeds(monkeypatch):
    seeds = [(await identified(monkeypatch, [0.01])).seeds[0] for _ in range(2)]

    assert seeds[0] != seeds[1]
    assert bytes(SEED_SIZE) not in seeds
    assert os.urandom is module.os.urandom


async def test_a_slow_answer_has_the_clock_set_again(monkeypatch):
    agent = await identified(monkeypatch, [0.5, 0.3, 0.02])

    assert agent.calls.count("clock") == 3


async def test_an_agent_that_stays_slow_is_told_of_in_the_log(monkeypatch, caplog):
    agent = await identified(monkeypatch, [0.5] * CLOCK_TRIES)

    assert agent.calls.count("clock") == CLOCK_TRIES
    assert "0.50 s behind" in caplog.text
