"""Turns what the agent answers into this room's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from grpclib.const import Status

from agent_client.errors import AgentError
from sandbox import errors

_BY_CODE: dict[Status, type[errors.SandboxError]] = {
    Status.INVALID_ARGUMENT: errors.InvalidArgumentError,
    Status.ALREADY_EXISTS: errors.AlreadyExistsError,
    Status.FAILED_PRECONDITION: errors.FailedPreconditionError,
    Status.UNIMPLEMENTED: errors.UnimplementedError,
    Status.DEADLINE_EXCEEDED: errors.DeadlineError,
    Status.UNAVAILABLE: errors.UnavailableError,
    Status.NOT_FOUND: errors.NotFoundError,
}

#: Shell convention for a command that is missing, or that may not be executed.
EXIT_NOT_FOUND = 127
EXIT_NOT_EXECUTABLE = 126
EXIT_UNKNOWN = 255


@contextmanager
def guest_errors(what: str) -> Iterator[None]:
    """Raise an `AgentError` of the body as the `SandboxError` of the same code, with `what` in front."""
    try:
        yield
    except AgentError as error:
        kind = errors.UnavailableError if error.lost else _BY_CODE.get(error.code, errors.SandboxError)
        raise kind(f"{what}: {error}") from error


@contextmanager
def creation_errors(container_id: str) -> Iterator[None]:
    """`guest_errors` while a container is made. What is not found then is a command or a file, so the code is Unknown,
    as with runc: NotFound would say that the container does not exist.
    """
    try:
        with guest_errors(f"create container {container_id}"):
            yield
    except errors.NotFoundError as error:
        raise errors.SandboxError(str(error)) from error


def start_failure(error: AgentError) -> tuple[int, errors.SandboxError]:
    """Exit status and error for a process that the guest could not run.

    Clients match the text that OCI runtimes use ("executable file not found in $PATH"), so it is kept, and the code
    is Unknown as with runc: NotFound would say that the container does not exist.
    """
    if error.code is Status.NOT_FOUND:
        return EXIT_NOT_FOUND, errors.SandboxError(error.message)
    if error.code is Status.PERMISSION_DENIED:
        return EXIT_NOT_EXECUTABLE, errors.SandboxError(error.message)
    return EXIT_UNKNOWN, errors.SandboxError(str(error))
