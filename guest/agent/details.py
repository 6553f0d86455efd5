"""What this agent is and can, for GetGuestDetails and Version."""

from __future__ import annotations

import os
import sys

from guest.agent.devices.registry import HANDLERS
from guest.agent.hotplug import OFFLINE_FEATURE, memory_block_size
from guest.agent.layout import Layout
from guest.agent.rpc_ports import PORTS_FEATURE
from guest.agent.storage.registry import DRIVERS
from guest.agent.streams import POSITION_FEATURE
from protos.lean.gen.grpc import AgentDetails, GuestDetailsResponse

AGENT_VERSION = "0.1.0"
#: The version of the agent's API, as Kata 4.1's agent reports it.
API_VERSION = "0.0.1"
#: Kata's name for "SetPolicy works"; its shim sends a policy only to an agent that says so.
POLICY_FEATURE = "agent-policy"


def guest_details(layout: Layout, mem_block_size: bool, mem_hotplug_probe: bool) -> GuestDetailsResponse:
    """The agent's details, and those of memory hot-plug that were asked for."""
    return GuestDetailsResponse(
        mem_block_size_bytes=memory_block_size(layout.sys) if mem_block_size else 0,
        support_mem_hotplug_probe=mem_hotplug_probe and os.path.exists(f"{layout.sys}/devices/system/memory/probe"),
        agent_details=AgentDetails(
            version=AGENT_VERSION,
            init_daemon=os.getpid() == 1,
            device_handlers=list(HANDLERS),
            storage_handlers=list(DRIVERS),
            supports_seccomp=os.path.exists(f"{layout.proc}/sys/kernel/seccomp/actions_avail"),
            extra_features=_features(),
        ),
    )


def _features() -> list[str]:
    policy = [POLICY_FEATURE] if has_policy_engine() else []
    return [POSITION_FEATURE, OFFLINE_FEATURE, PORTS_FEATURE, *policy]


def has_policy_engine() -> bool:
    """Whether the engine's package is there to be loaded (see `guest.agent.policy`)."""
    return any(os.path.isdir(f"{path}/regopy") for path in sys.path if path)
