"""Work goes on when the caller goes, and its errors reach only the caller."""

from __future__ import annotations

import asyncio

import pytest

from guest.agent.work import Work

pytestmark = pytest.mark.anyio


async def test_the_result_is_the_coroutines():
    async def answer():
        return 42

    async with asyncio.TaskGroup() as group:
        assert await Work(group).finish(answer()) == 42


async def test_an_error_reaches_the_caller_and_not_the_group():
    async def fail():
        raise ValueError("no")

    async with asyncio.TaskGroup() as group:
        with pytest.raises(ValueError, match="no"):
            await Work(group).finish(fail())
        assert await Work(group).finish(asyncio.sleep(0, "still here")) == "still here"


async def test_a_cancelled_caller_does_not_cancel_the_work():
    gate, done = asyncio.Event(), asyncio.Event()

    async def work():
        await gate.wait()
        done.set()

    async with asyncio.TaskGroup() as group:
        caller = asyncio.create_task(Work(group).finish(work()))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.set()

    assert done.is_set()
