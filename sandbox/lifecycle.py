"""The life of a process as states: an allowed move is a method that returns the next state, an illegal one an error.

The moves and codes are those of containerd's runtime v2 contract: NotFound for a process that has ended,
FailedPrecondition for the wrong moment.
"""

from __future__ import annotations

from typing import ClassVar, NoReturn

from sandbox.errors import FailedPreconditionError, NotFoundError
from sandbox.interface import ProcessStatus


class State:
    """Base: no move is legal. `what` names the process in errors."""

    status: ClassVar[ProcessStatus]
    word: ClassVar[str]

    def __init__(self, what: str) -> None:
        self.what = what

    def _illegal(self, move: str) -> NoReturn:
        raise FailedPreconditionError(f"cannot {move} {self.what}: it is {self.word}")

    def started(self) -> State:
        """The guest runs it now."""
        self._illegal("start")

    def paused(self) -> State:
        """Its cgroup is frozen."""
        self._illegal("pause")

    def resumed(self) -> State:
        """Its cgroup is thawed."""
        self._illegal("resume")

    def exited(self) -> State:
        """It has ended, by itself or with its VM."""
        return Stopped(self.what)

    def deleted(self) -> State:
        """It is forgotten."""
        self._illegal("delete")

    def check_signal(self) -> None:
        """Raise unless a signal can be sent."""
        self._illegal("signal")

    def check_exec(self) -> None:
        """Raise unless a further process can be run beside it."""
        self._illegal("exec in")


class Created(State):
    """Made, not yet run."""

    status = ProcessStatus.CREATED
    word = "created, not started"

    def started(self) -> State:
        return Running(self.what)

    def deleted(self) -> State:
        return Deleted(self.what)

    def check_signal(self) -> None:
        return


class Running(State):
    """Runs in the guest."""

    status = ProcessStatus.RUNNING
    word = "running"

    def paused(self) -> State:
        return Paused(self.what)

    def check_signal(self) -> None:
        return

    def check_exec(self) -> None:
        return


class Paused(State):
    """Frozen; signals wait until it is resumed."""

    status = ProcessStatus.PAUSED
    word = "paused"

    def resumed(self) -> State:
        return Running(self.what)

    def check_signal(self) -> None:
        return


class Stopped(State):
    """Ended; its exit status is kept until it is deleted."""

    status = ProcessStatus.STOPPED
    word = "stopped"

    def exited(self) -> State:
        return self

    def deleted(self) -> State:
        return Deleted(self.what)

    def check_signal(self) -> None:
        raise NotFoundError("process already finished")


class Deleted(State):
    """Forgotten: nothing may be asked of it any more."""

    status = ProcessStatus.STOPPED
    word = "deleted"

    def exited(self) -> State:
        return self

    def deleted(self) -> State:
        raise NotFoundError(f"{self.what}: not found")

    def check_signal(self) -> None:
        raise NotFoundError("process already finished")
