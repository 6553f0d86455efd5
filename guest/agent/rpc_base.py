"""What the parts of the service share: the agent they act on."""

from __future__ import annotations

from guest.agent.agent import Agent
from protos.lean.gen.grpc import AgentServiceBase


class AgentRpcs(AgentServiceBase):
    """Base of the parts of `grpc.AgentService`; what no part has answers UNIMPLEMENTED, from the generated base."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
