"""Waiting with a deadline."""

from __future__ import annotations

import pytest

from tests.harness.waiting import WaitTimeoutError, eventually, eventually_async


def test_the_first_true_value_is_returned():
    values = iter([0, "", "there", "later"])

    assert eventually(lambda: next(values), "a value", interval=0) == "there"


def test_a_deadline_names_what_was_waited_for_and_last_seen():
    with pytest.raises(WaitTimeoutError, match=r"the moon: not within 0 s .last seen: None"):
        eventually(lambda: None, "the moon", timeout=0)


@pytest.mark.anyio
async def test_a_probe_may_await():
    values = iter([None, 5])

    async def probe():
        return next(values)

    assert await eventually_async(probe, "a value", interval=0) == 5


@pytest.mark.anyio
async def test_an_awaiting_probe_has_a_deadline_too():
    async def probe():
        return False

    with pytest.raises(WaitTimeoutError, match="never"):
        await eventually_async(probe, "never", timeout=0)
