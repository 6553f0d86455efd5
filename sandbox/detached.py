"""Work that outlives whoever asked for it.

containerd may hang up, or give up, in the middle of a `Create` or `Start`. The step then still ends in one piece: it
runs in the pod's task group, and the caller only waits for its outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from sandbox.errors import UnavailableError

T = TypeVar("T")


class _Outcome(Generic[T]):
    def __init__(self) -> None:
        self.done = anyio.Event()
        self.value: list[T] = []
        self.error: BaseException | None = None

    async def run(self, work: Callable[[], Awaitable[T]]) -> None:
        try:
            self.value.append(await work())
        except Exception as error:  # noqa: BLE001 - handed to the caller as it is
            self.error = error
        finally:
            self.done.set()


async def detached(group: TaskGroup, work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in `group` and wait for it; if the caller is cancelled, `work` goes on."""
    outcome: _Outcome[T] = _Outcome()
    group.start_soon(outcome.run, work)
    await outcome.done.wait()
    if outcome.error is not None:
        raise outcome.error
    if not outcome.value:
        raise UnavailableError("the sandbox is being shut down")
    return outcome.value[0]
