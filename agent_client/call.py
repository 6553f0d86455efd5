"""One call to the agent: its deadline, and its failure as an `AgentError`."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol, TypeVar

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from agent_client import attendance
from agent_client.attendance import Ask, Attendance
from agent_client.errors import AgentError
from agent_client.limits import response_max
from agent_client.line import Line, limited
from ttrpc.errors import DEADLINE_TEXT

Request_contra = TypeVar("Request_contra", contravariant=True)
Reply_co = TypeVar("Reply_co", covariant=True)


class Method(Protocol[Request_contra, Reply_co]):
    """A unary method of a generated stub."""

    async def __call__(self, message: Request_contra, /, *, timeout: float | None = None) -> Reply_co:
        """Send the request, return the reply."""


class Caller:
    """Makes calls over one line; `ask` is the question whether its agent serves."""

    def __init__(self, line: Line, ask: Ask) -> None:
        self._line = line
        self._ask = ask

    async def __call__(
        self,
        rpc: str,
        method: Method[Request_contra, Reply_co],
        request: Request_contra,
        timeout: float | None,
    ) -> Reply_co:
        """The agent's reply to `request`; raises `AgentError` and nothing else.

        A call waits within its `timeout` for a line that is down. Once under way it is never made twice here: one that
        was not answered may have taken effect.
        """
        channel, left = self._line.channel, timeout
        began, attended = time.monotonic(), self._attended(timeout)
        try:
            if not self._line.is_up:
                left = await self._when_up(timeout)
                channel = self._line.channel
            async with attended:
                with limited(response_max(rpc, request)):
                    return await method(request, timeout=left)
        except GRPCError as error:
            lost = error.status is Status.UNAVAILABLE and channel.closed
            others = isinstance(attended, Attendance) and attended.answers > 0
            text = _message(error, timeout, time.monotonic() - began, others)
            raise AgentError(rpc, error.status, text, lost=lost) from error
        except ValueError as error:
            # The request holds a value that its field can't carry: it has not been sent.
            raise AgentError(rpc, Status.INVALID_ARGUMENT, str(error)) from error

    def _attended(self, timeout: float | None) -> AbstractAsyncContextManager[object]:
        """What takes forever, or ends before anybody would get impatient, is just waited for."""
        return nullcontext() if timeout is None or timeout <= attendance.PATIENCE else Attendance(self._ask)

    async def _when_up(self, timeout: float | None) -> float | None:
        """Wait for the line; what is left of `timeout` then."""
        began = time.monotonic()
        await self._line.up(timeout)
        return None if timeout is None else max(0.0, timeout - (time.monotonic() - began))


def _message(error: GRPCError, timeout: float | None, waited: float, answers_others: bool) -> str:
    # The words of a deadline that passed, here or there; an agent that gave up itself says what it waited for.
    if error.status is Status.DEADLINE_EXCEEDED and timeout is not None and error.message in (None, "", DEADLINE_TEXT):
        if waited < timeout / 2:
            return f"given up by the guest after {waited:.1f} s, though it had {timeout:g} s"
        return f"no answer in {timeout:g} s" + (", though the agent answers others" if answers_others else "")
    return error.message or "the agent gave no reason"


def refuse(rpc: str, why: str) -> AgentError:
    """The error for a reply that is well-formed and can't be true."""
    return AgentError(rpc, Status.INTERNAL, f"the agent's answer can't be right: {why}")
