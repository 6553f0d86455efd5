"""Steps of a start that run side by side: when it returns all are over, and the first failure is raised as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio


async def together(*works: Callable[[], Awaitable[None]]) -> None:
    """Do all of `works` at the same time; when one fails the others are cancelled, and its error is raised."""
    failures: list[Exception] = []

    async def run(work: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
            scope.cancel()

    async with anyio.create_task_group() as group:
        for work in works:
            group.start_soon(partial(run, work, group.cancel_scope))
    if failures:
        raise failures[0]
