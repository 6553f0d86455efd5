"""Statistics of containers added up to those of their pod."""

from __future__ import annotations

from protos.gen.grpc import (
    BlkioStats,
    BlkioStatsEntry,
    CgroupStats,
    CpuStats,
    CpuUsage,
    MemoryData,
    MemoryStats,
    NetworkStats,
    PidsStats,
    Pressure,
    PressureLine,
    RdmaDevice,
    StatsContainerResponse,
    UnifiedStats,
)
from sandbox.pod_stats import total

MOST = 2**64 - 1


def _stats(scale: int, limit: int) -> StatsContainerResponse:
    return StatsContainerResponse(
        cgroup_stats=CgroupStats(
            cpu_stats=CpuStats(cpu_usage=CpuUsage(total_usage=scale, percpu_usage=[scale] * scale)),
            memory_stats=MemoryStats(
                usage=MemoryData(usage=scale, limit=limit), stats={"anon": scale, f"only{scale}": 1}, use_hierarchy=True
            ),
            pids_stats=PidsStats(current=scale, limit=0),
            blkio_stats=BlkioStats(
                io_service_bytes_recursive=[BlkioStatsEntry(major=8, minor=0, op="read", value=scale)]
            ),
        ),
        network_stats=[NetworkStats(name="eth0", rx_bytes=100)],
    )


def test_what_is_counted_adds_up() -> None:
    cgroup = total([_stats(1, 10), _stats(2, 20)]).cgroup_stats

    assert cgroup is not None
    assert cgroup.cpu_stats is not None
    assert cgroup.cpu_stats.cpu_usage == CpuUsage(total_usage=3, percpu_usage=[3, 2])
    assert cgroup.memory_stats is not None
    assert cgroup.memory_stats.usage == MemoryData(usage=3, limit=30)
    assert cgroup.memory_stats.stats == {"anon": 3, "only1": 1, "only2": 1}
    assert cgroup.memory_stats.use_hierarchy is True
    assert cgroup.pids_stats == PidsStats(current=3, limit=0)
    assert cgroup.blkio_stats is not None
    assert [(item.op, item.value) for item in cgroup.blkio_stats.io_service_bytes_recursive] == [("read", 3)]


def test_no_limit_stays_no_limit() -> None:
    cgroup = total([_stats(1, MOST), _stats(2, 20)]).cgroup_stats

    assert cgroup is not None
    assert cgroup.memory_stats is not None
    assert cgroup.memory_stats.usage is not None
    assert cgroup.memory_stats.usage.limit == MOST


def test_the_network_is_the_guests_and_counts_once() -> None:
    assert [item.rx_bytes for item in total([_stats(1, 1), _stats(2, 2)]).network_stats] == [100]


def test_what_nobody_tells_is_absent() -> None:
    assert total([]) == StatsContainerResponse()
    only_cpu = StatsContainerResponse(cgroup_stats=CgroupStats(cpu_stats=CpuStats()))
    cgroup = total([only_cpu, only_cpu]).cgroup_stats
    assert cgroup is not None
    assert cgroup.memory_stats is None


def _beside(scale: int) -> StatsContainerResponse:
    unified = UnifiedStats(
        cpu_pressure=Pressure(some=PressureLine(avg10=scale)),
        rdma_limit=[RdmaDevice(name="mlx5_0", hca_handles=scale, hca_objects=(1 << 32) - 1)],
        hugetlb_limits={"2MB": scale},
    )
    return StatsContainerResponse(cgroup_stats=CgroupStats(unified=unified))


def test_pressure_is_told_of_one_container_and_does_not_add_up() -> None:
    one, two = total([_beside(1)]).cgroup_stats, total([_beside(1), _beside(2)]).cgroup_stats

    assert one is not None
    assert one.unified is not None
    assert one.unified.cpu_pressure == Pressure(some=PressureLine(avg10=1))
    assert two is not None
    assert two.unified is not None
    assert two.unified.cpu_pressure is None
    assert two.unified.rdma_limit == [RdmaDevice(name="mlx5_0", hca_handles=3, hca_objects=(1 << 32) - 1)]
    assert two.unified.hugetlb_limits == {"2MB": 3}
