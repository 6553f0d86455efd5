"""What an RPC of the agent may fail with; each class is one gRPC status.

Messages are one printable line of bounded length: they travel to the host's logs, and parts of them come from
containers.

A program that can't be run is told apart by the status, so that the host can report the shell's exit codes:
`NotFoundError` with a message that begins `exec: "` means 127, `PermissionDeniedError` with such a message means 126.
"""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError

MESSAGE_LIMIT = 2000


def one_line(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Fold `text` into one printable line of at most `limit` characters."""
    folded = " ".join(text[: 4 * limit].split())
    printable = "".join(char if char.isprintable() else "?" for char in folded)
    return printable if len(printable) <= limit else printable[: limit - 3] + "..."


class RpcError(GRPCError):
    """Base of all errors an RPC answers with; `code` is the status on the wire."""

    code = Status.UNKNOWN

    def __init__(self, message: str) -> None:
        self.text = one_line(message)
        super().__init__(self.code, self.text)

    def __str__(self) -> str:
        return self.text


class NotFoundError(RpcError):
    """No such container, process, link, or no such program."""

    code = Status.NOT_FOUND


class AlreadyExistsError(RpcError):
    """The id is taken, or there is a sandbox already."""

    code = Status.ALREADY_EXISTS


class InvalidArgumentError(RpcError):
    """The request is malformed or asks for something outside the agent's bounds."""

    code = Status.INVALID_ARGUMENT


class FailedPreconditionError(RpcError):
    """The container or process is in a state in which this can't be done."""

    code = Status.FAILED_PRECONDITION


class PermissionDeniedError(RpcError):
    """A program that may not be executed."""

    code = Status.PERMISSION_DENIED


class ResourceExhaustedError(RpcError):
    """A bound of the agent is reached."""

    code = Status.RESOURCE_EXHAUSTED


class DeadlineError(RpcError):
    """A step did not finish in its time."""

    code = Status.DEADLINE_EXCEEDED


class UnimplementedError(RpcError):
    """This agent doesn't do that."""

    code = Status.UNIMPLEMENTED


class InternalError(RpcError):
    """The kernel or crun refused; the message says which and why."""

    code = Status.INTERNAL


def failed(what: str, error: OSError) -> InternalError:
    """The `InternalError` for a system call: what was tried, and the kernel's reason."""
    return InternalError(f"{what}: {error.strerror or error}")
