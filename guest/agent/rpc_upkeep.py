"""RPCs on the guest's upkeep: its policy, packet filters and memory; see Kata's agent.proto for the messages.

What these need is imported when the first of them comes, for most guests never see one.
"""

from __future__ import annotations

from guest.agent.rpc_base import AgentRpcs
from protos.lean.gen.grpc import (
    AgentServiceBase,
    GetIpTablesRequest,
    GetIpTablesResponse,
    MemAgentCompactConfig,
    MemAgentMemcgConfig,
    PortsBase,
    SetIpTablesRequest,
    SetIpTablesResponse,
    SetPolicyRequest,
)
from protos.lean.gen.wellknown import Empty


class UpkeepRpcs(AgentRpcs):
    """SetPolicy, iptables, memory agent."""

    async def set_policy(self, message: SetPolicyRequest) -> Empty:
        """Have all later requests checked; a policy that is refused leaves the one before it in force."""
        agent = self.agent
        if agent.policy is None:
            from guest.agent.policy.guard import Policy

            methods = (*AgentServiceBase.METHODS, *PortsBase.METHODS)
            agent.policy = Policy([request for _, _, request, _ in methods], agent.reaper)
        await agent.work.finish(agent.policy.set(message.policy))
        return Empty()

    async def get_ip_tables(self, message: GetIpTablesRequest) -> GetIpTablesResponse:
        """What iptables-save prints."""
        from guest.agent import iptables

        return GetIpTablesResponse(data=await iptables.save(message.is_ipv6, self.agent.reaper))

    async def set_ip_tables(self, message: SetIpTablesRequest) -> SetIpTablesResponse:
        """Replace the tables that the data names; answers with what iptables-restore printed."""
        from guest.agent import iptables

        return SetIpTablesResponse(data=await iptables.restore(message.is_ipv6, message.data, self.agent.reaper))

    async def mem_agent_memcg_set(self, message: MemAgentMemcgConfig) -> Empty:
        """Change how idle memory of containers is reclaimed."""
        self.agent.memory().set_reclaim(message)
        return Empty()

    async def mem_agent_compact_set(self, message: MemAgentCompactConfig) -> Empty:
        """Change how free memory is compacted."""
        self.agent.memory().set_compaction(message)
        return Empty()
