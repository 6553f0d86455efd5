"""The services as ttrpc serves them: `grpc.AgentService`, put together from its parts, and `grpc.Health`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Handler

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

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class AgentService(SandboxRpcs, ContainerRpcs, ProcessRpcs, NetworkRpcs, StorageRpcs, UpkeepRpcs):
    """All RPCs of the agent. A new family of RPCs is one more module and one more base here."""

    def __mapping__(self) -> dict[str, Handler]:
        """The handlers by route; each asks the policy, if there is one, before it does anything."""
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


class HealthService(HealthBase):
    """Whether the agent serves, which it does if it can answer."""

    async def check(self, message: CheckRequest) -> HealthCheckResponse:
        """SERVING."""
        return HealthCheckResponse(status=HealthCheckResponseServingStatus.SERVING)

    async def version(self, message: CheckRequest) -> VersionCheckResponse:
        """The versions of the API and of the agent."""
        return VersionCheckResponse(grpc_version=API_VERSION, agent_version=AGENT_VERSION)
