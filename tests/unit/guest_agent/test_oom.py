"""Each out-of-memory kill is handed to one caller, before the exit it causes is reported."""

from __future__ import annotations

import asyncio

import pytest

from guest.agent.errors import FailedPreconditionError
from guest.agent.oom import MAX_PENDING, OomWatch

pytestmark = pytest.mark.anyio


@pytest.fixture
async def watch():
    result = OomWatch()
    yield result
    result.close()


def kills(directory, count):
    (directory / "memory.events").write_text(f"low 0\noom {count}\noom_kill {count}\n")


async def test_a_kill_since_the_last_look_is_an_event(watch, tmp_path):
    kills(tmp_path, 0)
    watch.watch("c1", str(tmp_path))
    kills(tmp_path, 1)

    watch.check("c1")

    assert await asyncio.wait_for(watch.next_event(), 10) == "c1"


async def test_kills_before_the_watch_are_none_of_ours(watch, tmp_path):
    kills(tmp_path, 5)
    watch.watch("c1", str(tmp_path))

    watch.check("c1")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.next_event(), 0.01)


async def test_an_event_goes_to_one_of_those_who_wait(watch, tmp_path):
    kills(tmp_path, 0)
    watch.watch("c1", str(tmp_path))
    waiting = [asyncio.create_task(watch.next_event()) for _ in range(2)]
    await asyncio.sleep(0)
    kills(tmp_path, 1)

    watch.check("c1")

    done, pending = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == ["c1"]
    assert len(pending) == 1
    pending.pop().cancel()


async def test_what_is_pending_outlives_its_container_and_its_waiter(watch, tmp_path):
    kills(tmp_path, 0)
    watch.watch("c1", str(tmp_path))
    waiting = asyncio.create_task(watch.next_event())
    await asyncio.sleep(0)
    waiting.cancel()
    kills(tmp_path, 1)
    watch.check("c1")

    watch.forget("c1")

    assert await asyncio.wait_for(watch.next_event(), 10) == "c1"


async def test_pending_events_are_bounded(watch, tmp_path):
    kills(tmp_path, 0)
    for number in range(MAX_PENDING + 10):
        watch._add(f"c{number}")

    assert await watch.next_event() == "c10"


async def test_a_cgroup_without_memory_is_not_watched(watch, tmp_path):
    watch.watch("c1", str(tmp_path))

    watch.check("c1")
    watch.forget("c1")


async def test_after_the_end_nobody_waits(watch):
    waiting = asyncio.create_task(watch.next_event())
    await asyncio.sleep(0)

    watch.end()

    with pytest.raises(FailedPreconditionError):
        await asyncio.wait_for(waiting, 10)
