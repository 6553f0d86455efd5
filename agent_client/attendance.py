"""A call whose answer is long in coming: is it the call that takes its time, or the guest that hears nothing?

What waits in the channel to the guest goes on with whatever comes after it: a notification that got lost between an
emulated machine and its kernel, as may happen when processors were plugged in or the machine was restored, holds up the
last message, and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final

from grpclib.exceptions import GRPCError

#: Seconds that a call may take before the agent is asked whether it serves, and between two such questions.
PATIENCE: Final = 3.0

#: Asks the agent within so many seconds whether it serves.
Ask = Callable[[float], Awaitable[object]]


class Attendance:
    """Asks an agent now and then, for as long as the body of an `async with` waits for it."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        #: How often it has answered.
        self.answers = 0

    async def __aenter__(self) -> Attendance:
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def _begin(self) -> None:
        self._asking = asyncio.get_running_loop().create_task(self._keep_asking())

    async def _keep_asking(self) -> None:
        while True:
            with suppress(GRPCError):
                await self._ask(PATIENCE)
                self.answers += 1
            await asyncio.sleep(PATIENCE)
