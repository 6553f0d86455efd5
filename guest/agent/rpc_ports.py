"""`grpc.Ports`, this runtime's own service beside Kata's; see agent.proto for the messages.

Most guests are never dialled, so what it needs is imported with the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guest.agent.errors import InvalidArgumentError
from guest.agent.rpc_base import Checked
from protos.lean.gen.grpc import (
    DialRequest,
    HangUpRequest,
    PortsBase,
    ReadStreamResponse,
    ReceiveRequest,
    SendRequest,
    WriteStreamResponse,
)
from protos.lean.gen.wellknown import Empty

if TYPE_CHECKING:
    from guest.agent.agent import Agent
    from guest.agent.ports import Connections

#: What the agent says of itself (`AgentDetails.extra_features`) because of this service.
PORTS_FEATURE = "ports"


class PortsService(Checked, PortsBase):
    """Dial, receive, send, hang up."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._made: Connections | None = None

    @property
    def _connections(self) -> Connections:
        if self._made is None:
            from guest.agent.ports import Connections

            self._made = Connections()
        return self._made

    async def dial(self, message: DialRequest) -> Empty:
        """Connect to a port of the loopback."""
        await self._connections.dial(message.connection, message.port, message.prefers_ipv6)
        return Empty()

    async def receive(self, message: ReceiveRequest) -> Any:
        """Wait for data; empty data is the end. Much of it comes as a `PipedMessage`, the same response."""
        if message.len == 0:
            raise InvalidArgumentError("0 bytes would look like the end of what is sent")
        data = await self._connections.get(message.connection).receive(message.len, message.position)
        return ReadStreamResponse(data=data) if isinstance(data, bytes) else data

    async def send(self, message: SendRequest) -> WriteStreamResponse:
        """Send all of the data; none at all ends what is sent."""
        connection = self._connections.get(message.connection)
        return WriteStreamResponse(len=await connection.send(message.data, message.position))

    async def hang_up(self, message: HangUpRequest) -> Empty:
        """Close a connection."""
        self._connections.hang_up(message.connection)
        return Empty()
