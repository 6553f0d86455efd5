"""The daemon's life: as long as it is wanted."""

from __future__ import annotations

import time

import anyio
import pytest

from shim import lifetime as lifetime_module
from shim.lifetime import Lifetime

pytestmark = pytest.mark.anyio


async def test_ends_when_nobody_comes() -> None:
    with anyio.fail_after(5):
        reason = await Lifetime(lambda: True, 0.05).wait()

    assert reason == "no container for 0.05 s"


async def test_lives_while_there_is_a_container() -> None:
    lifetime = Lifetime(lambda: False, 0.02)

    with anyio.move_on_after(0.2) as scope:
        await lifetime.wait()

    assert scope.cancelled_caught


async def test_a_pod_that_becomes_empty_gets_its_time_again() -> None:
    empty = False
    lifetime = Lifetime(lambda: empty, 0.2)
    left_at = 0.0

    async def leave() -> None:
        nonlocal empty, left_at
        await anyio.sleep(0.25)
        empty, left_at = True, time.monotonic()

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        with anyio.fail_after(5):
            await lifetime.wait()

    assert time.monotonic() - left_at >= 0.15


async def test_touching_it_prolongs_the_life() -> None:
    lifetime = Lifetime(lambda: True, 0.2)
    started = time.monotonic()
    async with anyio.create_task_group() as group:

        async def touch() -> None:
            await anyio.sleep(0.15)
            lifetime.touch()

        group.start_soon(touch)
        await lifetime.wait()

    assert time.monotonic() - started >= 0.3


async def test_a_pod_that_has_been_used_ends_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime_module, "EMPTIED_TIMEOUT", 0.05)
    lifetime = Lifetime(lambda: True, 1.0)
    lifetime.touch()

    with anyio.fail_after(0.9):
        reason = await lifetime.wait()

    assert reason == "no container for 0.05 s"


async def test_the_first_reason_counts_and_ends_it_at_once() -> None:
    lifetime = Lifetime(lambda: False, 60)
    lifetime.end("first")
    lifetime.end("second")

    with anyio.fail_after(1):
        assert await lifetime.wait() == "first"


async def test_a_sandbox_that_waits_for_its_start_has_as_long_as_a_first_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifetime_module, "EMPTIED_TIMEOUT", 0.01)
    lifetime = Lifetime(lambda: True, 0.3)
    started = time.monotonic()
    lifetime.touch()
    lifetime.await_start()

    with anyio.fail_after(5):
        await lifetime.wait()

    assert time.monotonic() - started >= 0.3
