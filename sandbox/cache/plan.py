"""Whether pods' VMs may come from the cache: pure, and light, for every pod's daemon loads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from config import AgentConfig, Config
from sandbox.factory.plan import base_size
from sandbox.resources.demand import Range
from sandbox.sizing import HostSize, VmSize


@dataclass(frozen=True)
class CachePlan:
    """The cache at `endpoint` keeps `number` VMs of `size`; `agent` is the agents' configuration, as JSON."""

    endpoint: Path
    number: int
    size: VmSize
    agent: str


def plan_cache(settings: Config, bounds: Range, host: HostSize) -> CachePlan | None:
    """What the configuration asks for; None if there is no cache."""
    factory = settings.factory
    if not factory.vm_cache_number:
        return None
    size = base_size(settings, bounds, host)
    return CachePlan(factory.vm_cache_endpoint, factory.vm_cache_number, size, agent_json(settings.agent))


def agent_json(agent: AgentConfig) -> str:
    """The configuration of the guests' agents."""
    return json.dumps(asdict(agent), default=_plain, sort_keys=True)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
