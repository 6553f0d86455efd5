"""Statistics: every value of the agent's message reaches the message that the host's containerd wants."""

from __future__ import annotations

import pytest

from protos import anys
from protos.gen.grpc import (
    BlkioStats,
    BlkioStatsEntry,
    CgroupStats,
    CpuStats,
    CpuUsage,
    HugetlbStats,
    MemoryData,
    MemoryStats,
    NetworkStats,
    PidsStats,
    Pressure,
    PressureLine,
    RdmaDevice,
    StatsContainerResponse,
    ThrottlingData,
    UnifiedStats,
)
from protos.gen.io.containerd.cgroups import v1 as v1_pb
from protos.gen.io.containerd.cgroups import v2 as v2_pb
from shim.metrics import host, v1, v2
from shim.metrics.values import UNLIMITED, limit


def _stats(memory_stat: dict[str, int], memory_limit: int = 0) -> StatsContainerResponse:
    return StatsContainerResponse(
        cgroup_stats=CgroupStats(
            cpu_stats=CpuStats(
                cpu_usage=CpuUsage(
                    total_usage=9_000_000,
                    percpu_usage=[4, 5],
                    usage_in_kernelmode=2_000_000,
                    usage_in_usermode=7_000_000,
                ),
                throttling_data=ThrottlingData(periods=11, throttled_periods=12, throttled_time=13_000),
            ),
            memory_stats=MemoryStats(
                cache=77,
                usage=MemoryData(usage=100, max_usage=200, failcnt=3, limit=memory_limit),
                swap_usage=MemoryData(usage=5, max_usage=6, failcnt=7, limit=8),
                kernel_usage=MemoryData(usage=21, max_usage=22, failcnt=23, limit=24),
                stats=memory_stat,
            ),
            pids_stats=PidsStats(current=3, limit=50),
            blkio_stats=BlkioStats(
                io_service_bytes_recursive=[
                    BlkioStatsEntry(major=8, minor=0, op="Read", value=1000),
                    BlkioStatsEntry(major=8, minor=0, op="Write", value=2000),
                    BlkioStatsEntry(major=8, minor=16, op="read", value=3000),
                    BlkioStatsEntry(major=8, minor=16, op="Total", value=9999),
                ],
                io_serviced_recursive=[
                    BlkioStatsEntry(major=8, minor=0, op="Read", value=10),
                    BlkioStatsEntry(major=8, minor=0, op="Write", value=20),
                ],
                sectors_recursive=[BlkioStatsEntry(major=8, minor=0, value=4)],
            ),
            hugetlb_stats={"2MB": HugetlbStats(usage=1, max_usage=2, failcnt=3)},
        ),
        network_stats=[
            NetworkStats(
                name="eth0",
                rx_bytes=1,
                rx_packets=2,
                rx_errors=3,
                rx_dropped=4,
                tx_bytes=5,
                tx_packets=6,
                tx_errors=7,
                tx_dropped=8,
            )
        ],
    )


_V2_GUEST = {"anon": 40, "file": 41, "inactive_file": 42, "pgfault": 43, "pgmajfault": 44, "slab": 45, "anon_thp": 46}
_V1_GUEST = {
    "rss": 1,
    "total_rss": 40,
    "cache": 2,
    "total_cache": 41,
    "total_inactive_file": 42,
    "total_pgfault": 43,
    "total_pgmajfault": 44,
    "hierarchical_memory_limit": 1 << 30,
}


@pytest.mark.parametrize("guest", [_V1_GUEST, _V2_GUEST], ids=["v1 guest", "v2 guest"])
def test_version_2_has_what_cri_reads(guest: dict[str, int]) -> None:
    metrics = v2.metrics(_stats(guest, 1 << 30))

    assert metrics.cpu is not None
    assert (metrics.cpu.usage_usec, metrics.cpu.user_usec, metrics.cpu.system_usec) == (9000, 7000, 2000)
    assert (metrics.cpu.nr_periods, metrics.cpu.nr_throttled, metrics.cpu.throttled_usec) == (11, 12, 13)
    memory = metrics.memory
    assert memory is not None
    assert (memory.usage, memory.usage_limit, memory.max_usage) == (100, 1 << 30, 200)
    assert (memory.anon, memory.file, memory.inactive_file) == (40, 41, 42)
    assert (memory.pgfault, memory.pgmajfault) == (43, 44)


@pytest.mark.parametrize("guest", [_V1_GUEST, _V2_GUEST], ids=["v1 guest", "v2 guest"])
def test_version_1_has_what_cri_reads(guest: dict[str, int]) -> None:
    metrics = v1.metrics(_stats(guest, 1 << 30))

    assert metrics.cpu is not None
    assert metrics.cpu.usage is not None
    assert (metrics.cpu.usage.total, metrics.cpu.usage.kernel, metrics.cpu.usage.user) == (
        9_000_000,
        2_000_000,
        7_000_000,
    )
    assert metrics.cpu.usage.per_cpu == [4, 5]
    assert metrics.cpu.throttling == v1_pb.Throttle(periods=11, throttled_periods=12, throttled_time=13_000)
    memory = metrics.memory
    assert memory is not None
    assert memory.usage == v1_pb.MemoryEntry(limit=1 << 30, usage=100, max=200, failcnt=3)
    assert memory.kernel == v1_pb.MemoryEntry(limit=24, usage=21, max=22, failcnt=23)
    assert (memory.total_rss, memory.total_cache, memory.total_inactive_file) == (40, 41, 42)
    assert (memory.total_pg_fault, memory.total_pg_maj_fault) == (43, 44)
    assert memory.hierarchical_memory_limit == 1 << 30


def test_version_2_keeps_values_that_version_1_has_no_name_for() -> None:
    memory = v2.metrics(_stats(_V2_GUEST)).memory

    assert memory is not None
    assert (memory.slab, memory.anon_thp) == (45, 46)


def test_devices_are_one_entry_in_version_2() -> None:
    metrics = v2.metrics(_stats({}))

    assert metrics.io is not None
    assert metrics.io.usage == [
        v2_pb.IoEntry(major=8, minor=0, rbytes=1000, wbytes=2000, rios=10, wios=20),
        v2_pb.IoEntry(major=8, minor=16, rbytes=3000),
    ]


def test_devices_are_entries_per_direction_in_version_1() -> None:
    metrics = v1.metrics(_stats({}))

    assert metrics.blkio is not None
    assert metrics.blkio.io_service_bytes_recursive[1] == v1_pb.BlkIoEntry(op="Write", major=8, minor=0, value=2000)
    assert metrics.blkio.sectors_recursive == [v1_pb.BlkIoEntry(major=8, minor=0, value=4)]


def test_pids_pages_and_links_are_there_in_both() -> None:
    one, two = v1.metrics(_stats({})), v2.metrics(_stats({}))

    assert one.pids == v1_pb.PidsStat(current=3, limit=50)
    assert two.pids == v2_pb.PidsStat(current=3, limit=50)
    assert one.hugetlb == [v1_pb.HugetlbStat(usage=1, max=2, failcnt=3, pagesize="2MB")]
    assert two.hugetlb == [v2_pb.HugeTlbStat(current=1, max=2, failcnt=3, pagesize="2MB")]
    for link in (one.network[0], two.network[0]):
        assert link.name == "eth0"
        counters = (link.rx_bytes, link.rx_packets, link.rx_errors, link.rx_dropped)
        assert counters == (1, 2, 3, 4)
        assert (link.tx_bytes, link.tx_packets, link.tx_errors, link.tx_dropped) == (5, 6, 7, 8)


@pytest.mark.parametrize("value", [0, UNLIMITED, 9223372036854771712])
def test_no_limit_is_the_largest_number(value: int) -> None:
    stats = _stats({}, value)
    one, two = v1.metrics(stats), v2.metrics(stats)

    assert limit(value) == UNLIMITED
    assert one.memory is not None
    assert one.memory.usage is not None
    assert one.memory.usage.limit == one.memory.hierarchical_memory_limit == UNLIMITED
    assert two.memory is not None
    assert two.memory.usage_limit == UNLIMITED


def test_unlimited_pids_are_told_as_each_version_does() -> None:
    stats = StatsContainerResponse(cgroup_stats=CgroupStats(pids_stats=PidsStats(current=1, limit=UNLIMITED)))

    assert v1.metrics(stats).pids == v1_pb.PidsStat(current=1, limit=0)
    assert v2.metrics(stats).pids == v2_pb.PidsStat(current=1, limit=UNLIMITED)


@pytest.mark.parametrize("stats", [StatsContainerResponse(), StatsContainerResponse(cgroup_stats=CgroupStats())])
def test_what_is_unknown_is_absent(stats: StatsContainerResponse) -> None:
    assert v1.metrics(stats) == v1_pb.Metrics()
    assert v2.metrics(stats) == v2_pb.Metrics()


@pytest.mark.parametrize(
    ("unified", "name"), [(True, "io.containerd.cgroups.v2.Metrics"), (False, "io.containerd.cgroups.v1.Metrics")]
)
def test_the_type_url_is_bare_and_the_hosts(unified: bool, name: str) -> None:
    packed = host.packed(_stats({}), unified)

    assert packed.type_url == name
    kind = v2_pb.Metrics if unified else v1_pb.Metrics
    assert anys.unpack(packed, kind).cpu is not None


def test_kills_for_want_of_memory_are_told_if_the_agent_tells_them() -> None:
    memory = MemoryStats(stats={"memory.events.oom_kill": 2, "memory.events.max": 9, "anon": 1})
    stats = StatsContainerResponse(cgroup_stats=CgroupStats(memory_stats=memory))

    first, second = v1.metrics(stats), v2.metrics(stats)

    assert first.memory_oom_control is not None
    assert first.memory_oom_control.oom_kill == 2
    assert second.memory_events is not None
    assert (second.memory_events.oom_kill, second.memory_events.max) == (2, 9)


def test_an_agent_that_tells_no_kills_is_not_taken_for_one_that_counted_none() -> None:
    stats = StatsContainerResponse(cgroup_stats=CgroupStats(memory_stats=MemoryStats(stats={"anon": 1})))
    assert v1.metrics(stats).memory_oom_control is None
    assert v2.metrics(stats).memory_events is None


def _swap(memory_stat: dict[str, int], memory: tuple[int, int], swap: tuple[int, int], ours: bool = False):
    """Both messages' memory, of (usage, limit) of memory and of swap."""
    data = MemoryStats(
        usage=MemoryData(usage=memory[0], limit=memory[1]),
        swap_usage=MemoryData(usage=swap[0], limit=swap[1]),
        stats=memory_stat,
    )
    cgroup = CgroupStats(memory_stats=data, unified=UnifiedStats() if ours else None)
    stats = StatsContainerResponse(cgroup_stats=cgroup)
    first, second = v1.metrics(stats).memory, v2.metrics(stats).memory
    assert first is not None
    assert first.swap is not None
    assert second is not None
    return (first.swap.usage, first.swap.limit), (second.swap_usage, second.swap_limit)


def test_swap_counts_with_memory_in_version_1_and_alone_in_version_2() -> None:
    assert _swap({"anon": 1}, (100, 1000), (5, 50)) == ((105, 1050), (5, 50))
    assert _swap({"anon": 1}, (100, UNLIMITED), (5, 50)) == ((105, UNLIMITED), (5, 50))
    assert _swap({"rss": 1}, (100, 1000), (105, 1050)) == ((105, 1050), (5, 50))
    assert _swap({"rss": 1}, (100, 1000), (105, UNLIMITED)) == ((105, UNLIMITED), (5, UNLIMITED))


def test_a_swap_limit_of_nothing_is_one_if_our_agent_tells_it() -> None:
    assert _swap({"anon": 1}, (100, 1000), (0, 0), ours=True) == ((100, 1000), (0, 0))
    assert _swap({"anon": 1}, (100, 1000), (0, 0))[1] == (0, UNLIMITED)


def _unified_guest() -> StatsContainerResponse:
    stats = _stats(_V2_GUEST | {"sock": 4096, "workingset_refault_anon": 2, "workingset_refault_file": 3})
    assert stats.cgroup_stats is not None
    line = PressureLine(avg10=1234, avg60=50, avg300=1, total=77)
    stats.cgroup_stats.unified = UnifiedStats(
        cpu_pressure=Pressure(some=line),
        memory_pressure=Pressure(some=PressureLine(), full=line),
        io_pressure=Pressure(full=line),
        rdma_current=[RdmaDevice(name="mlx5_0", hca_handles=1, hca_objects=2)],
        rdma_limit=[RdmaDevice(name="mlx5_0", hca_handles=3, hca_objects=(1 << 32) - 1)],
        nr_bursts=8,
        burst_usec=9,
        hugetlb_limits={"2MB": UNLIMITED},
    )
    return stats


def test_version_2_has_every_field_that_our_guest_counts() -> None:
    metrics = v2.metrics(_unified_guest())

    data = v2_pb.PsiData(avg10=12.34, avg60=0.5, avg300=0.01, total=77)
    assert metrics.cpu is not None
    assert metrics.cpu.psi == v2_pb.PsiStats(some=data)
    assert (metrics.cpu.nr_bursts, metrics.cpu.burst_usec) == (8, 9)
    assert metrics.memory is not None
    assert metrics.memory.psi == v2_pb.PsiStats(some=v2_pb.PsiData(), full=data)
    assert metrics.memory.workingset_refault == 5
    assert metrics.io is not None
    assert metrics.io.psi == v2_pb.PsiStats(full=data)
    assert metrics.rdma is not None
    assert metrics.rdma.current == [v2_pb.RdmaEntry(device="mlx5_0", hca_handles=1, hca_objects=2)]
    assert metrics.rdma.limit[0].hca_objects == (1 << 32) - 1
    assert metrics.hugetlb[0].max == UNLIMITED


def test_version_1_has_what_it_has_a_place_for() -> None:
    metrics = v1.metrics(_unified_guest())

    assert metrics.rdma is not None
    assert metrics.rdma.current == [v1_pb.RdmaEntry(device="mlx5_0", hca_handles=1, hca_objects=2)]
    assert metrics.memory is not None
    assert metrics.memory.kernel_tcp == v1_pb.MemoryEntry(limit=UNLIMITED, usage=4096)


def test_an_agent_without_our_field_is_no_error_and_nothing_is_made_up() -> None:
    one, two = v1.metrics(_stats(_V2_GUEST)), v2.metrics(_stats(_V2_GUEST))

    assert one.rdma is two.rdma is None
    assert two.cpu is not None
    assert two.memory is not None
    assert two.io is not None
    assert two.cpu.psi is two.memory.psi is two.io.psi is None
