"""The services as ttrpc serves them: `grpc.AgentService`, put together from its parts, and `grpc.Health`."""

from __future__ import annotations

from guest.agent.details import AGENT_VERSION, API_VERSION
from guest.agent.rpc_container import ContainerRpcs
from guest.agent.rpc_network import NetworkRpcs
from guest.agent.rpc_process import ProcessRpcs
from guest.agent.rpc_sandbox import SandboxRpcs
from guest.agent.rpc_storage import StorageRpcs
from guest.agent.rpc_upkeep import UpkeepRpcs
from protos.lean.gen.grpc import (
    CheckRequest,
    HealthBase,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
    VersionCheckResponse,
)


class AgentService(SandboxRpcs, ContainerRpcs, ProcessRpcs, NetworkRpcs, StorageRpcs, UpkeepRpcs):
    """All RPCs of the agent. A new family of RPCs is one more module and one more base here."""


class HealthService(HealthBase):
    """Whether the agent serves, which it does if it can answer."""

    async def check(self, message: CheckRequest) -> HealthCheckResponse:
        """SERVING."""
        return HealthCheckResponse(status=HealthCheckResponseServingStatus.SERVING)

    async def version(self, message: CheckRequest) -> VersionCheckResponse:
        """The versions of the API and of the agent."""
        return VersionCheckResponse(grpc_version=API_VERSION, agent_version=AGENT_VERSION)
