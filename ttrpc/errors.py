"""The ways in which a stream or a connection fails, and the statuses that tell the other side or the caller."""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ttrpc.envelope import RpcStatus
from ttrpc.frame import MESSAGE_MAX

#: An error's text on the wire is cut to this many characters: it may quote what the peer sent.
TEXT_MAX = 16 * 1024

#: The text of DEADLINE_EXCEEDED, which is that of Go's servers and clients.
DEADLINE_TEXT = "context deadline exceeded"


class OversizedMessageError(ValueError):
    """A message is larger than a frame may carry; `length` is its size in bytes."""

    def __init__(self, length: int) -> None:
        super().__init__(f"message length {length} exceed maximum message size of {MESSAGE_MAX}")
        self.length = length


class StreamClosedError(RuntimeError):
    """The stream has ended, or this side has said that it sends no more."""


def rpc_status(code: Status, text: str) -> RpcStatus:
    """Return the status message for `code`, with `text` cut to what is sensible on a wire."""
    return RpcStatus(code.value, text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 3] + "...")


def from_exception(error: Exception) -> RpcStatus:
    """Return what a handler's `error` is on the wire: a GRPCError as it says, any other UNKNOWN with its text.

    `details` of a GRPCError, where given, are encoded `google.protobuf.Any` messages. Never raises, for whoever answers
    for a handler must not fail with it.
    """
    try:
        if isinstance(error, GRPCError):
            details = tuple(bytes(detail) for detail in error.details or ())
            return rpc_status(error.status, error.message or "")._replace(details=details)
        return rpc_status(Status.UNKNOWN, str(error) or type(error).__name__)
    except Exception as exc:  # noqa: BLE001
        return rpc_status(Status.UNKNOWN, f"{type(error).__name__} that can't be sent: {type(exc).__name__}")


def to_grpc_error(status: RpcStatus) -> GRPCError:
    """Return the exception for a received `status`; a code that gRPC does not know becomes UNKNOWN."""
    try:
        code = Status(status.code)
    except ValueError:
        return GRPCError(Status.UNKNOWN, f"code {status.code}: {status.message}", status.details or None)
    return GRPCError(code, status.message, status.details or None)


def closed(cause: str) -> GRPCError:
    """Return the error of every call on a connection that was lost; its text is the one containerd looks for."""
    return GRPCError(Status.UNAVAILABLE, f"ttrpc: closed: {cause}")
