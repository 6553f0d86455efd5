"""What happens to tasks, told to containerd: in order, at least once, and never in the way of a request.

Events wait in one queue and are sent one at a time. While containerd is away the first of the queue is tried again
and again, with growing pauses, so that the order holds over its restart (exit after start, the init's exit last). The
queue is bounded; when it is full the oldest event that is not being sent is dropped: containerd asks for the state of
every task when it comes back, and the latest events are the nearest to it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from protos import anys, timestamps
from protos.gen.containerd import events
from protos.gen.containerd.types import Envelope

#: Events that wait at most, as in Go's shims.
MAX_QUEUE = 2048

#: Pause before an event is sent again, in seconds: the first, and the longest.
FIRST_RETRY, LAST_RETRY = 0.1, 5.0

#: Longest pause while the daemon waits for the queue to empty, in seconds.
FLUSH_RETRY = 0.2

TOPICS: dict[type, str] = {
    events.TaskCreate: "/tasks/create",
    events.TaskStart: "/tasks/start",
    events.TaskExecAdded: "/tasks/exec-added",
    events.TaskExecStarted: "/tasks/exec-started",
    events.TaskExit: "/tasks/exit",
    events.TaskDelete: "/tasks/delete",
    events.TaskOom: "/tasks/oom",
    events.TaskPaused: "/tasks/paused",
    events.TaskResumed: "/tasks/resumed",
    events.TaskCheckpointed: "/tasks/checkpointed",
}

_log = logging.getLogger(__name__)


class UndeliveredError(Exception):
    """containerd could not be reached; the same event may be sent again."""


#: Sends one event; raises `UndeliveredError` to have it sent again, any other exception to have it dropped.
Forward = Callable[[Envelope], Awaitable[None]]


class Publisher:
    """The queue of events of one daemon. `publish` may be called from its first moment, `run` sends."""

    def __init__(self, namespace: str, forward: Forward, limit: int = MAX_QUEUE) -> None:
        self._namespace = namespace
        self._forward = forward
        self._limit = limit
        self._queue: deque[Envelope] = deque()
        self._sending = False
        self._flushing = False
        self._changed = anyio.Event()

    def publish(self, message: Any) -> None:
        """Queue an event of `protos.gen.containerd.events` (`sandbox.interface.Publish`)."""
        if len(self._queue) >= self._limit:
            dropped = self._queue.popleft()
            _log.warning("event queue is full: dropped the oldest event, %s", dropped.topic)
        self._queue.append(
            Envelope(
                timestamp=timestamps.from_ns(time.time_ns()),
                namespace=self._namespace,
                topic=TOPICS[type(message)],
                event=anys.pack(message),
            )
        )
        self._wake()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            while not self._queue:
                await self._changed.wait()
            self._sending = True
            await self._deliver(self._queue.popleft())
            self._sending = False
            self._wake()

    async def flush(self) -> None:
        """Wait until everything queued is sent or given up; the caller sets the deadline."""
        self._flushing = True
        self._wake()
        while self._queue or self._sending:
            await self._changed.wait()

    @property
    def pending(self) -> int:
        """Events not sent yet."""
        return len(self._queue) + self._sending

    async def _deliver(self, envelope: Envelope) -> None:
        pause = FIRST_RETRY
        while True:
            try:
                await self._forward(envelope)
            except UndeliveredError as error:
                _log.debug("event %s: %s; trying again", envelope.topic, error)
            except Exception as error:  # noqa: BLE001 - one event that can't be sent must not hold up the others
                _log.warning("event %s dropped: %s", envelope.topic, error)
                return
            else:
                return
            await self._pause(pause)
            pause = min(2 * pause, LAST_RETRY)

    async def _pause(self, seconds: float) -> None:
        """Sleep; shorter, and at once, when the daemon wants to end."""
        deadline = time.monotonic() + seconds
        while not self._flushing and (left := deadline - time.monotonic()) > 0:
            with anyio.move_on_after(left):
                await self._changed.wait()
        if self._flushing:
            await anyio.sleep(min(seconds, FLUSH_RETRY))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
