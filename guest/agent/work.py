"""Work that is finished whoever still listens: a half-made container helps nobody.

A lost connection cancels the RPC's handler. What the handler does through `Work.finish` goes on in the agent's own task
group, to its end or its own rollback; only the answer is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Work:
    """Runs coroutines in a task group that outlives sessions."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._background: set[asyncio.Task[None]] = set()

    async def finish(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result or error; cancelling the caller does not cancel the coroutine."""
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        result.add_done_callback(_retrieve)
        self._group.create_task(_deliver(coroutine, result))
        return await asyncio.shield(result)

    def background(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start what goes on until it is cancelled; it must raise nothing, for an error would end the agent."""
        task = self._group.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def end_background(self) -> None:
        """Cancel what still goes on in the background: the task group waits for it otherwise."""
        for task in self._background:
            task.cancel()


async def _deliver(coroutine: Coroutine[Any, Any, T], result: asyncio.Future[T]) -> None:
    try:
        value = await coroutine
    except Exception as error:  # noqa: BLE001 - whatever it is goes to who asked, never to the group
        result.set_exception(error)
    except asyncio.CancelledError:
        result.cancel()
        raise
    else:
        result.set_result(value)


def _retrieve(result: asyncio.Future[Any]) -> None:
    """Mark an error as seen, so that asyncio does not complain when the caller is gone."""
    if not result.cancelled():
        result.exception()
