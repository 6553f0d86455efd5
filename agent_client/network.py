"""The guest's network: interfaces, routes, neighbours, packet filters. Messages are those of `protos.gen.types`."""

from __future__ import annotations

from collections.abc import Iterable

from agent_client import deadlines
from agent_client.call import Caller
from protos.gen import grpc as pb
from protos.gen import types


class Network:
    """The RPCs of one agent that concern its network."""

    def __init__(self, call: Caller, agent: pb.AgentServiceStub) -> None:
        self._call = call
        self._agent = agent

    async def update_interface(
        self, interface: types.Interface, *, timeout: float | None = deadlines.REQUEST
    ) -> types.Interface:
        """Find the link by its hardware address, waiting for `device_path` if given, and make it so; it as it is."""
        request = pb.UpdateInterfaceRequest(interface=interface)
        return await self._call("UpdateInterface", self._agent.update_interface, request, timeout)

    async def list_interfaces(self, *, timeout: float | None = deadlines.REQUEST) -> list[types.Interface]:
        """The guest's interfaces."""
        reply = await self._call("ListInterfaces", self._agent.list_interfaces, pb.ListInterfacesRequest(), timeout)
        return reply.interfaces

    async def update_routes(
        self, routes: Iterable[types.Route], *, timeout: float | None = deadlines.REQUEST
    ) -> list[types.Route]:
        """Replace the routes of the main table, those without a gateway first; the routes as they are then."""
        request = pb.UpdateRoutesRequest(routes=pb.Routes(routes=list(routes)))
        return (await self._call("UpdateRoutes", self._agent.update_routes, request, timeout)).routes

    async def list_routes(self, *, timeout: float | None = deadlines.REQUEST) -> list[types.Route]:
        """The guest's routes."""
        return (await self._call("ListRoutes", self._agent.list_routes, pb.ListRoutesRequest(), timeout)).routes

    async def add_arp_neighbors(
        self, neighbors: Iterable[types.ArpNeighbor], *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Add entries to the neighbour tables (ARP and NDP)."""
        request = pb.AddArpNeighborsRequest(neighbors=pb.ArpNeighbors(arp_neighbors=list(neighbors)))
        await self._call("AddARPNeighbors", self._agent.add_arp_neighbors, request, timeout)

    async def get_ip_tables(self, *, is_ipv6: bool = False, timeout: float | None = deadlines.REQUEST) -> bytes:
        """The packet filter's rules as `iptables-save` prints them."""
        request = pb.GetIpTablesRequest(is_ipv6=is_ipv6)
        return (await self._call("GetIPTables", self._agent.get_ip_tables, request, timeout)).data

    async def set_ip_tables(
        self, rules: bytes, *, is_ipv6: bool = False, timeout: float | None = deadlines.REQUEST
    ) -> bytes:
        """Load rules as `iptables-restore` takes them; what it printed."""
        request = pb.SetIpTablesRequest(is_ipv6=is_ipv6, data=rules)
        return (await self._call("SetIPTables", self._agent.set_ip_tables, request, timeout)).data
