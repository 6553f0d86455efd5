"""Connections to TCP ports of the guest's loopback: `grpc.Ports`, which only this runtime's own agent serves."""

from __future__ import annotations

import itertools

from agent_client import deadlines
from agent_client.call import Caller, refuse
from protos.gen import grpc as pb


class Ports:
    """The RPCs of one agent that concern connections, which go by numbers that are given here."""

    def __init__(self, call: Caller, agent: pb.PortsStub) -> None:
        self._call = call
        self._agent = agent
        self._numbers = itertools.count(1)
        #: Whether the agent has the service; told by `AgentClient.get_guest_details`.
        self.are_served = False

    def number(self) -> int:
        """A number for a new connection."""
        return next(self._numbers)

    async def dial(
        self, connection: int, port: int, *, prefers_ipv6: bool = False, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Connect to `port`; again with the same number if the answer was lost."""
        request = pb.DialRequest(connection=connection, port=port, prefers_ipv6=prefers_ipv6)
        await self._call("Dial", self._agent.dial, request, timeout)

    async def receive(
        self, connection: int, length: int, position: int, *, timeout: float | None = deadlines.UNLIMITED
    ) -> bytes:
        """Wait for data, at most `length` bytes of it; empty at its end. `position`: how many bytes have come."""
        request = pb.ReceiveRequest(connection=connection, len=length, position=position)
        reply = await self._call("Receive", self._agent.receive, request, timeout)
        if len(reply.data) > length:
            raise refuse("Receive", f"{len(reply.data)} bytes where at most {length} were asked for")
        return reply.data

    async def send(
        self, connection: int, data: bytes, position: int, *, timeout: float | None = deadlines.UNLIMITED
    ) -> None:
        """Send all of `data`, however long it is not read; none at all is the end. `position`: bytes sent before."""
        request = pb.SendRequest(connection=connection, data=data, position=position)
        taken = (await self._call("Send", self._agent.send, request, timeout)).len
        if taken != len(data):
            raise refuse("Send", f"{taken} bytes taken of {len(data)}")

    async def hang_up(self, connection: int, *, timeout: float | None = deadlines.REQUEST) -> None:
        """End a connection, which need not be there."""
        await self._call("HangUp", self._agent.hang_up, pb.HangUpRequest(connection=connection), timeout)
