"""Contract: a clone's agent that does not answer is asked again while there is time; any other failure counts."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from grpclib.const import Status

from agent_client.client import AgentClient
from agent_client.errors import AgentError
from sandbox.factory import clone

pytestmark = pytest.mark.anyio

URL = "serial:///run/agent"


class Guest:
    """Answers the attempt of that number; the others run out of time, or fail as told."""

    def __init__(self, answers: int, failure: Status = Status.DEADLINE_EXCEEDED) -> None:
        self._answers = answers
        self._failure = failure
        self.attempts: list[float] = []

    async def connect(self, url: str, *, timeout: float) -> str:
        self.attempts.append(timeout)
        if len(self.attempts) == self._answers:
            return "client"
        if self._failure is Status.DEADLINE_EXCEEDED:
            await anyio.sleep(timeout)
        await anyio.lowlevel.checkpoint()
        raise AgentError("connect", self._failure, f"{url}: no")


def placed(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> Guest:
    monkeypatch.setattr(AgentClient, "connect", guest.connect)
    monkeypatch.setattr(clone, "ATTEMPT_TIMEOUT", 0.01)
    return guest


async def test_one_that_has_missed_its_host_is_asked_again_with_more_patience(monkeypatch):
    guest = placed(Guest(answers=3), monkeypatch)

    assert await clone.reach(URL, 60.0) == "client"

    assert guest.attempts == [0.01, 0.02, 0.04]


async def test_the_last_attempt_has_what_is_left(monkeypatch):
    guest = placed(Guest(answers=0), monkeypatch)

    with pytest.raises(AgentError, match="no"):
        await clone.reach(URL, 0.05)

    assert guest.attempts[0] == 0.01
    assert guest.attempts[-1] <= 0.05
    assert sum(guest.attempts) <= 0.051


async def test_a_refusal_is_final(monkeypatch):
    guest = placed(Guest(answers=2, failure=Status.UNAVAILABLE), monkeypatch)

    with pytest.raises(AgentError):
        await clone.reach(URL, 60.0)

    assert len(guest.attempts) == 1
