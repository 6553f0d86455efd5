"""The guest's upkeep: plugged memory, its memory agent, metrics, diagnosis, policy."""

from __future__ import annotations

from collections.abc import Iterable

from agent_client import deadlines
from agent_client.call import Caller
from protos.gen import grpc as pb


class Upkeep:
    """The RPCs of one agent that concern the guest as a machine."""

    def __init__(self, call: Caller, agent: pb.AgentServiceStub) -> None:
        self._call = call
        self._agent = agent

    async def mem_hotplug_by_probe(
        self, addresses: Iterable[int], *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Tell a guest that does not notice plugged memory itself (arm64) at which addresses some is."""
        request = pb.MemHotplugByProbeRequest(mem_hotplug_probe_addr=list(addresses))
        await self._call("MemHotplugByProbe", self._agent.mem_hotplug_by_probe, request, timeout)

    async def mem_agent_memcg_set(
        self, settings: pb.MemAgentMemcgConfig, *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Change how the memory agent reclaims memory; a setting that is None stays as it is."""
        await self._call("MemAgentMemcgSet", self._agent.mem_agent_memcg_set, settings, timeout)

    async def mem_agent_compact_set(
        self, settings: pb.MemAgentCompactConfig, *, timeout: float | None = deadlines.REQUEST
    ) -> None:
        """Change how the memory agent compacts memory; a setting that is None stays as it is."""
        await self._call("MemAgentCompactSet", self._agent.mem_agent_compact_set, settings, timeout)

    async def get_metrics(self, *, timeout: float | None = deadlines.REQUEST) -> str:
        """The guest's metrics in Prometheus' text format, unchecked: text of many lines, up to 4 MiB."""
        reply = await self._call("GetMetrics", self._agent.get_metrics, pb.GetMetricsRequest(), timeout)
        return reply.metrics

    async def get_diagnostic_data(
        self, log_type: str, container_id: str, *, timeout: float | None = deadlines.REQUEST
    ) -> str:
        """What the guest keeps under `log_type` of a container, such as its termination log; unchecked text."""
        request = pb.GetDiagnosticDataRequest(log_type=log_type, container_id=container_id)
        return (await self._call("GetDiagnosticData", self._agent.get_diagnostic_data, request, timeout)).data

    async def set_policy(self, policy: str, *, timeout: float | None = deadlines.REQUEST) -> None:
        """Have every later request checked against `policy` (Rego)."""
        await self._call("SetPolicy", self._agent.set_policy, pb.SetPolicyRequest(policy=policy), timeout)
