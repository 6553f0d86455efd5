"""When the daemon ends: asked to, or because nobody wants it any more.

containerd may never come (it was killed, or its client gave up, between `start` and the first connection), and after
a failed `Create` its `Shutdown` may be lost: then nobody would ever end the daemon. So a pod without containers has a
limited life: long before its first container, short after its last. A sandbox that the Sandbox API has created, and
that never was up, is no more than that: whoever is to start it has as long as whoever is to bring a first container.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

#: Seconds that a daemon without containers lives; `KATA_SHIM_IDLE_TIMEOUT` overrides it (for tests).
IDLE_TIMEOUT = 60.0

#: The same for one that has had a `Create`: containerd cleans up at once, and only one that died meanwhile does not.
EMPTIED_TIMEOUT = 5.0


class Lifetime:
    """The daemon's life: `wait` returns when it shall end; `finished` is set when nothing of the pod is left."""

    def __init__(self, is_empty: Callable[[], bool], idle_timeout: float = IDLE_TIMEOUT) -> None:
        self._is_empty = is_empty
        self._idle_timeout = self._timeout = idle_timeout
        self._reason: str | None = None
        self._end = anyio.Event()
        self._since = time.monotonic()
        self.finished = anyio.Event()

    def touch(self) -> None:
        """Somebody wants the pod: a life without containers counts from now on."""
        self._since = time.monotonic()
        self._timeout = min(self._timeout, EMPTIED_TIMEOUT)

    def await_start(self) -> None:
        """A sandbox was created, or asked for before it was started: its start is waited for from now on."""
        self._since = time.monotonic()
        self._timeout = self._idle_timeout

    def end(self, reason: str) -> None:
        """End the daemon; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._end.set()

    async def wait(self) -> str:
        """Wait until the daemon shall end; return why."""
        while self._reason is None:
            # The pod is looked at now and then: a create that outlived its caller empties it without a call.
            with anyio.move_on_after(self._timeout / 10):
                await self._end.wait()
            if not self._is_empty():
                self.touch()
            elif time.monotonic() - self._since >= self._timeout:
                self.end(f"no container for {self._timeout:g} s")
        return self._reason
