"""What the guest's agent can, by its own word in GetGuestDetails, against what a pod is going to ask of it: pure.

The agent protocol has no versions to speak of; these lists are what there is to go by.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent_client.errors import fold
from protos.gen import grpc as agent_pb
from sandbox.errors import FailedPreconditionError


def check_storages(details: agent_pb.AgentDetails | None, drivers: Iterable[str], why: str) -> None:
    """Raise `FailedPreconditionError` with `why` for a storage driver that the agent does not have.

    An agent that tells of no drivers at all is too old to tell, and is asked.
    """
    if details is None or not details.storage_handlers:
        return
    missing = sorted(set(drivers) - set(details.storage_handlers))
    if missing:
        known = " ".join(sorted(fold(name) for name in details.storage_handlers))
        raise FailedPreconditionError(
            f"the guest's agent (version {fold(details.version)}) has no storage driver {' '.join(missing)}, it has: "
            f"{known}; {why}"
        )
