"""RPCs on the guest's network; see Kata's agent.proto and types.proto for the messages."""

from __future__ import annotations

from guest.agent import links, routes
from guest.agent.errors import InvalidArgumentError
from guest.agent.rpc_base import AgentRpcs
from protos.lean.gen.grpc import (
    AddArpNeighborsRequest,
    Interfaces,
    ListInterfacesRequest,
    ListRoutesRequest,
    Routes,
    UpdateInterfaceRequest,
    UpdateRoutesRequest,
)
from protos.lean.gen.types import Interface
from protos.lean.gen.wellknown import Empty


class NetworkRpcs(AgentRpcs):
    """Interfaces, routes, neighbours."""

    async def update_interface(self, message: UpdateInterfaceRequest) -> Interface:
        """Set a link up with its name, addresses and MTU."""
        if message.interface is None:
            raise InvalidArgumentError("there is no interface in the request")
        timeout = self.agent.options.hotplug_timeout
        return await self.agent.work.finish(links.update_interface(message.interface, timeout))

    async def update_routes(self, message: UpdateRoutesRequest) -> Routes:
        """Add or replace routes; answers with all there are."""
        return Routes(routes=routes.update_routes(message.routes.routes if message.routes else []))

    async def list_interfaces(self, message: ListInterfacesRequest) -> Interfaces:
        """All links with their addresses."""
        return Interfaces(interfaces=links.list_interfaces())

    async def list_routes(self, message: ListRoutesRequest) -> Routes:
        """The main table."""
        return Routes(routes=routes.list_routes())

    async def add_arp_neighbors(self, message: AddArpNeighborsRequest) -> Empty:
        """Add or replace neighbours."""
        routes.add_neighbours(message.neighbors.arp_neighbors if message.neighbors else [])
        return Empty()
