"""The line to an agent: one connection at a time, and another in its place when that one is lost.

Life: *up* while the connection stands. When it is lost the line is *down*: calls under way fail, later ones wait for up
to `patience` seconds for somebody (`agent_client.keeper`) to bring a new connection. `close` ends it for good.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ttrpc.client import Channel
from ttrpc.frame import MESSAGE_MAX

#: A stub has no argument for it, and calls `Line.request` in the task of its caller.
_response_max: ContextVar[int] = ContextVar("response_max", default=MESSAGE_MAX)


@contextmanager
def limited(response_max: int) -> Iterator[None]:
    """Limit the responses of the calls that this task makes in the body, in bytes."""
    token = _response_max.set(response_max)
    try:
        yield
    finally:
        _response_max.reset(token)


class Line:
    """What the stubs of a client call, as they would a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._closed = False
        self._cause = "ttrpc: closed"
        self._down_since: float | None = None
        self._changed = asyncio.Event()
        #: How long after a loss calls wait for a new connection, in seconds; 0 while nobody would make one.
        self.patience = 0.0
        channel.on_close(lambda error: self._lost(channel, error))

    @property
    def channel(self) -> Channel:
        """The connection that calls go over now, or the one that was lost last."""
        return self._channel

    @property
    def is_up(self) -> bool:
        """Whether a call can be made now."""
        return not self._channel.closed

    @property
    def is_closed(self) -> bool:
        """Whether the line was closed, so that it will never be up again."""
        return self._closed

    def request(self, *arguments: Any, **options: Any) -> Any:
        """A call over the connection of now; see `ttrpc.client.Channel.request`."""
        return self._channel.request(*arguments, **options, response_max=_response_max.get())

    async def up(self, timeout: float | None = None) -> None:
        """Return once the line is up.

        Raises GRPCError(UNAVAILABLE) if it is closed, has been down for too long, or is still down after `timeout`
        seconds.
        """
        end = math.inf if timeout is None else self._now() + timeout
        while not self.is_up:
            left = min(self._patience_left(), end - self._now())
            if left <= 0:
                raise GRPCError(Status.UNAVAILABLE, self._cause)
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def lost(self) -> str:
        """Wait until the line is down, or closed; why."""
        await self._channel.wait_closed()
        return self._cause

    def replace(self, channel: Channel) -> None:
        """Go on with another connection; it is closed at once if the line is."""
        if self._closed:
            channel.close()
            return
        self._channel, self._down_since = channel, None
        channel.on_close(lambda error: self._lost(channel, error))
        self._wake()

    def close(self) -> None:
        """Close the connection; calls fail. Idempotent."""
        self._closed = True
        self._channel.close()
        self._wake()

    def _lost(self, channel: Channel, error: GRPCError) -> None:
        if channel is self._channel:
            self._cause = error.message or self._cause
            self._down_since = self._now()

    def _patience_left(self) -> float:
        if self._closed:
            return 0.0
        return self.patience - (self._now() - self._down_since if self._down_since is not None else 0.0)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
