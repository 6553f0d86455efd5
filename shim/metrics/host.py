"""Which of the two messages this host's containerd expects."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from protos import anys
from protos.gen.grpc import StatsContainerResponse

_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")


@cache
def host_is_unified() -> bool:
    """Whether the host has the unified cgroup hierarchy (version 2) and no other."""
    return _UNIFIED.exists()


def packed(stats: StatsContainerResponse, unified: bool) -> Any:
    """The metrics of a container as `Any`, with the bare type URL that containerd compares."""
    if unified:
        from shim.metrics import v2

        return anys.pack(v2.metrics(stats))
    from shim.metrics import v1

    return anys.pack(v1.metrics(stats))
