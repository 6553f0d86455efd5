"""One call to the agent: its deadline, and its failure as an `AgentError`."""

from __future__ import annotations

from typing import Protocol, TypeVar

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from agent_client.errors import AgentError
from ttrpc.client import Channel

Request_contra = TypeVar("Request_contra", contravariant=True)
Reply_co = TypeVar("Reply_co", covariant=True)


class Method(Protocol[Request_contra, Reply_co]):
    """A unary method of a generated stub."""

    async def __call__(self, message: Request_contra, /, *, timeout: float | None = None) -> Reply_co:
        """Send the request, return the reply."""


class Caller:
    """Makes calls over one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def __call__(
        self,
        rpc: str,
        method: Method[Request_contra, Reply_co],
        request: Request_contra,
        timeout: float | None,
    ) -> Reply_co:
        """The agent's reply to `request`; raises `AgentError` and nothing else.

        An agent that does not answer in time is not asked twice: the call may have taken effect.
        """
        try:
            return await method(request, timeout=timeout)
        except GRPCError as error:
            lost = error.status is Status.UNAVAILABLE and self._channel.closed
            raise AgentError(rpc, error.status, _message(error, timeout), lost=lost) from error
        except ValueError as error:
            # The request holds a value that its field can't carry: it has not been sent.
            raise AgentError(rpc, Status.INVALID_ARGUMENT, str(error)) from error


def _message(error: GRPCError, timeout: float | None) -> str:
    if error.status is Status.DEADLINE_EXCEEDED and timeout is not None:
        return f"no answer in {timeout:g} s"
    return error.message or "the agent gave no reason"


def refuse(rpc: str, why: str) -> AgentError:
    """The error for a reply that is well-formed and can't be true."""
    return AgentError(rpc, Status.INTERNAL, f"the agent's answer can't be right: {why}")
