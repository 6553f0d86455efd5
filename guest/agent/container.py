"""One container: its state, its init and execs, and what to undo when it goes.

Life: CREATED (the init waits), RUNNING, PAUSED, and STOPPED as soon as the init has exited. A call that the state does
not allow is `FailedPreconditionError`.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from guest.agent.cgroup import Cgroup
from guest.agent.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    NotFoundError,
    ResourceExhaustedError,
)
from guest.agent.process import Process

if TYPE_CHECKING:
    from guest.agent.inner_hooks import InnerHooks

MAX_EXECS = 1024
#: Ended execs that are remembered, so that late or repeated questions for their status find an answer.
KEPT_EXECS = 64
#: Seconds for which an ended exec that was waited for keeps output that nobody has read.
KEEP_SECONDS = 60.0


class State(enum.Enum):
    """Where a container is in its life."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Container:
    """A container that crun has made."""

    def __init__(
        self,
        container_id: str,
        init: Process,
        cgroup: Cgroup,
        config: dict[str, Any],
        pci_addresses: Mapping[str, str] | None = None,
    ) -> None:
        self.id = container_id
        self.init = init
        self.cgroup = cgroup
        #: The OCI config as crun got it.
        self.config = config
        #: The guest's addresses of devices passed through, by the host's; for the environment of execs.
        self.pci_addresses = pci_addresses or {}
        #: Held by what changes the container, never while waiting for a process.
        self.lock = asyncio.Lock()
        #: Hooks that crun runs for it in the guest.
        self.inner_hooks: InnerHooks | None = None
        self._state = State.CREATED
        self._execs: dict[str, Process] = {}
        self._starting: set[str] = set()

    @property
    def state(self) -> State:
        """The state now."""
        return State.STOPPED if self.init.ended else self._state

    def require(self, *states: State) -> None:
        """Raise `FailedPreconditionError` unless the container is in one of `states`."""
        if self.state not in states:
            wanted = " or ".join(state.value for state in states)
            raise FailedPreconditionError(f"container {self.id} is {self.state.value}, not {wanted}")

    def become(self, state: State) -> None:
        """Enter `state`; the caller has checked that it may."""
        self._state = state

    def process(self, exec_id: str) -> Process:
        """The init for an empty id, the container's own id or the id it was created with; else that exec."""
        if exec_id in ("", self.id, self.init.exec_id):
            return self.init
        process = self._execs.get(exec_id)
        if process is None:
            raise NotFoundError(f"container {self.id} has no process {exec_id}")
        return process

    def reserve(self, exec_id: str) -> None:
        """Take an id for an exec that is about to be started; `add_exec` or `unreserve` must follow."""
        known = self._execs.get(exec_id)
        is_init = exec_id in ("", self.id, self.init.exec_id)
        if is_init or exec_id in self._starting or (known is not None and not (known.ended and known.waited)):
            raise AlreadyExistsError(f"container {self.id} has a process {exec_id or self.id} already")
        self._forget_old()
        if len(self._execs) + len(self._starting) >= MAX_EXECS:
            raise ResourceExhaustedError(f"container {self.id} has {MAX_EXECS} execs")
        self._starting.add(exec_id)

    def unreserve(self, exec_id: str) -> None:
        """The exec was not started after all."""
        self._starting.discard(exec_id)

    def add_exec(self, process: Process) -> None:
        """The exec runs."""
        self._starting.discard(process.exec_id)
        previous = self._execs.pop(process.exec_id, None)
        if previous is not None:
            previous.streams.close()
        self._execs[process.exec_id] = process

    def exec_ids(self) -> dict[int, str]:
        """The ids of the execs that run, by their pid in the guest."""
        return {process.pid: exec_id for exec_id, process in self._execs.items() if not process.ended}

    def close_streams(self) -> None:
        """Give up every process' streams."""
        for process in (self.init, *self._execs.values()):
            process.streams.close()

    def _forget_old(self) -> None:
        """Forget the oldest execs that nobody can want any more, beyond `KEPT_EXECS`."""
        over = len(self._execs) - KEPT_EXECS
        if over <= 0:
            return
        now = time.monotonic()
        old = [process for process in self._execs.values() if process.ended and process.waited]
        for process in old:
            if over > 0 and (process.streams.drained or now - process.ended_at > KEEP_SECONDS):
                self._execs.pop(process.exec_id).streams.close()
                over -= 1
