"""What can go wrong with a pod, in containerd's terms.

Each error carries the gRPC code that containerd's runtime v2 contract asks for, so the task service answers it as it
is. Messages are one line and name the thing that failed.
"""

from __future__ import annotations

from grpclib.const import Status


class SandboxError(Exception):
    """Base of all errors a caller of this room may see; `status` is the code to answer with."""

    status = Status.UNKNOWN

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class NotFoundError(SandboxError):
    """No such container, exec, or no such process any more."""

    status = Status.NOT_FOUND


class AlreadyExistsError(SandboxError):
    """The id is taken."""

    status = Status.ALREADY_EXISTS


class FailedPreconditionError(SandboxError):
    """The process is in a state in which this can't be done."""

    status = Status.FAILED_PRECONDITION


class InvalidArgumentError(SandboxError):
    """The bundle, the spec, an id or an option is malformed."""

    status = Status.INVALID_ARGUMENT


class UnavailableError(SandboxError):
    """The VM or its agent is gone."""

    status = Status.UNAVAILABLE


class DeadlineError(SandboxError):
    """A step did not finish in its time."""

    status = Status.DEADLINE_EXCEEDED


class UnimplementedError(SandboxError):
    """Asked for something this runtime does not do."""

    status = Status.UNIMPLEMENTED


def one_line(text: str, limit: int = 4000) -> str:
    """Fold `text`, which may have come from the guest, to one printable line of at most `limit` characters."""
    folded = " ".join(text.split())
    printable = "".join(char if char.isprintable() else "?" for char in folded)
    return printable if len(printable) <= limit else printable[: limit - 3] + "..."
