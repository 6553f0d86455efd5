"""A stack dump names every task and thread, and where it stands."""

from __future__ import annotations

import threading

import anyio
import pytest

from shim import stackdump

pytestmark = pytest.mark.anyio


async def _waits_here(event: anyio.Event) -> None:
    await event.wait()


async def test_tasks_are_shown_down_to_what_they_wait_for() -> None:
    event = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(_waits_here, event, name="waiter")
        await anyio.wait_all_tasks_blocked()

        dump = stackdump.render()
        event.set()

    task = next(text for text in dump if text.startswith("task waiter"))
    assert "_waits_here" in task
    assert __file__ in task


async def test_threads_are_shown() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="worker")
    thread.start()

    dump = stackdump.render()
    release.set()
    thread.join()

    assert any(text.startswith("thread worker") for text in dump)
