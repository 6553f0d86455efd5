"""Statistics of a container in a real guest: what its kernel counts is told, what it does not count is absent."""

from __future__ import annotations

import pytest

from shim.metrics import v2
from tests.harness.live_guest import STANDING, Live

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


async def test_every_file_of_the_containers_cgroup_is_told_and_no_other(guest: Live):
    files = set((await guest.sh("ls /sys/fs/cgroup")).split())

    metrics = v2.metrics(await guest.agent.stats_container(STANDING))

    assert metrics.cpu is not None
    assert metrics.cpu.usage_usec > 0
    assert metrics.memory is not None
    assert metrics.memory.anon > 0
    assert metrics.memory.pgfault > 0
    told = {
        "pids.current": metrics.pids,
        "io.stat": metrics.io,
        "memory.events": metrics.memory_events,
        "cpu.pressure": metrics.cpu.psi,
        "memory.pressure": metrics.memory.psi,
        "io.pressure": metrics.io.psi if metrics.io else None,
    }
    assert {name for name, value in told.items() if value is not None} == told.keys() & files
    pages = {name.split(".")[1] for name in files if name.startswith("hugetlb.")}
    assert {item.pagesize for item in metrics.hugetlb} == pages
