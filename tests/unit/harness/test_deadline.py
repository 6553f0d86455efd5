"""A test that hangs fails, and says where."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest
import uvloop

from tests.harness.deadline import limit


def test_what_ends_in_time_is_left_alone():
    with limit(30, "quick"):
        pass

    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_hang_fails_and_names_the_place():
    with (
        pytest.raises(pytest.fail.Exception, match=r"slow did not end within 0.05 s; it was at .*\.py:\d+"),
        limit(0.05, "slow"),
    ):
        threading.Event().wait(30)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_hanging_event_loop_is_ended_too(factory):
    with (
        pytest.raises(pytest.fail.Exception, match="loop did not end"),
        limit(0.05, "loop"),
        asyncio.Runner(loop_factory=factory) as runner,
    ):
        runner.run(asyncio.Event().wait())


def test_the_handler_of_before_is_back():
    before = signal.getsignal(signal.SIGALRM)

    with limit(30, "x"):
        pass

    assert signal.getsignal(signal.SIGALRM) == before
