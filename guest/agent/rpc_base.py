"""What the parts of the service share: the agent they act on, and its policy, which is asked first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Handler

from guest.agent.agent import Agent
from protos.lean.gen.grpc import AgentServiceBase
from protos.lean.service import Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Checked(Service):
    """A service each of whose handlers asks the policy, if there is one, before it does anything."""

    agent: Agent

    def __mapping__(self) -> dict[str, Handler]:
        """The handlers by route."""
        return {
            route: Handler(self._checked(getattr(self, name)), Cardinality.UNARY_UNARY, request, reply)
            for route, name, request, reply in self.METHODS
        }

    def _checked(self, method: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[None]]:
        async def handle(stream: Any) -> None:
            message = await stream.recv_message()
            policy = self.agent.policy
            if policy is not None and policy.active:
                await policy.require(message)
            await stream.send_message(await method(message))

        return handle


class AgentRpcs(Checked, AgentServiceBase):
    """Base of the parts of `grpc.AgentService`; what no part has answers UNIMPLEMENTED, from the generated base."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
