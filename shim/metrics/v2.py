"""`io.containerd.cgroups.v2.Metrics` from the agent's statistics."""

from __future__ import annotations

from protos.gen.grpc import (
    BlkioStats,
    CpuStats,
    HugetlbStats,
    MemoryStats,
    NetworkStats,
    PidsStats,
    StatsContainerResponse,
    UnifiedStats,
)
from protos.gen.io.containerd.cgroups import v2
from shim.metrics.unified import psi, rdma_v2
from shim.metrics.values import (
    UNLIMITED,
    first_of,
    is_version_1,
    limit,
    memory_events,
    swap_alone,
    swap_limit,
    total_of,
)

_NANOS_PER_MICRO = 1000

# Fields that cgroup v1 knows under other names; v1's own totals come first, as version 2 counts whole hierarchies.
_RENAMED = {
    "anon": ("anon", "total_rss", "rss"),
    "file": ("file", "total_cache", "cache"),
    "anon_thp": ("anon_thp", "total_rss_huge", "rss_huge"),
    "file_mapped": ("file_mapped", "total_mapped_file", "mapped_file"),
    "file_dirty": ("file_dirty", "total_dirty", "dirty"),
    "file_writeback": ("file_writeback", "total_writeback", "writeback"),
}
# Fields of memory.stat that both have, or version 2 alone.
_SAME = """
    kernel_stack slab sock shmem inactive_anon active_anon inactive_file active_file unevictable slab_reclaimable
    slab_unreclaimable pgfault pgmajfault workingset_nodereclaim pgrefill pgscan pgsteal pgactivate pgdeactivate
    pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc
"""
# Fields that Linux 5.9 has split.
_SPLIT = ("workingset_refault", "workingset_activate")
_MEMORY = _RENAMED | {name: (name, f"total_{name}") for name in _SAME.split()}


def metrics(stats: StatsContainerResponse) -> v2.Metrics:
    """The message; what the agent does not know is absent from it."""
    cgroup = stats.cgroup_stats
    result = v2.Metrics(network=[_network(item) for item in stats.network_stats])
    if cgroup is not None:
        result.cpu = _cpu(cgroup.cpu_stats) if cgroup.cpu_stats is not None else None
        if cgroup.memory_stats is not None:
            result.memory = _memory(cgroup.memory_stats, cgroup.unified is not None)
            result.memory_events = _memory_events(cgroup.memory_stats)
        result.pids = _pids(cgroup.pids_stats) if cgroup.pids_stats is not None else None
        result.io = _io(cgroup.blkio_stats) if cgroup.blkio_stats is not None else None
        result.hugetlb = [_hugetlb(size, item) for size, item in sorted(cgroup.hugetlb_stats.items())]
        if cgroup.unified is not None:
            _add_unified(result, cgroup.unified)
    return result


def _add_unified(result: v2.Metrics, unified: UnifiedStats) -> None:
    """What our guest tells besides."""
    if result.cpu is not None:
        result.cpu.psi = psi(unified.cpu_pressure)
        result.cpu.nr_bursts, result.cpu.burst_usec = unified.nr_bursts, unified.burst_usec
    if result.memory is not None:
        result.memory.psi = psi(unified.memory_pressure)
    if result.io is not None:
        result.io.psi = psi(unified.io_pressure)
    result.rdma = rdma_v2(unified.rdma_current, unified.rdma_limit)
    for pages in result.hugetlb:
        pages.max = unified.hugetlb_limits.get(pages.pagesize, pages.max)


def _cpu(stats: CpuStats) -> v2.CpuStat:
    result = v2.CpuStat()
    if (usage := stats.cpu_usage) is not None:
        result.usage_usec = usage.total_usage // _NANOS_PER_MICRO
        result.user_usec = usage.usage_in_usermode // _NANOS_PER_MICRO
        result.system_usec = usage.usage_in_kernelmode // _NANOS_PER_MICRO
    if (throttling := stats.throttling_data) is not None:
        result.nr_periods = throttling.periods
        result.nr_throttled = throttling.throttled_periods
        result.throttled_usec = throttling.throttled_time // _NANOS_PER_MICRO
    return result


def _memory(stats: MemoryStats, is_ours: bool) -> v2.MemoryStat:
    result = v2.MemoryStat(usage_limit=UNLIMITED, swap_limit=UNLIMITED)
    for field, names in _MEMORY.items():
        setattr(result, field, first_of(stats.stats, names))
    for field in _SPLIT:
        setattr(result, field, total_of(stats.stats, field))
    if (usage := stats.usage) is not None:
        result.usage = usage.usage
        result.usage_limit = limit(usage.limit)
        result.max_usage = usage.max_usage
    if (swap := stats.swap_usage) is not None:
        result.swap_usage = swap.usage
        result.swap_limit = swap_limit(swap.limit, is_ours)
        result.swap_max_usage = swap.max_usage
        if is_version_1(stats.stats):
            result.swap_usage = max(0, swap.usage - result.usage)
            result.swap_limit = swap_alone(result.usage_limit, result.swap_limit)
            result.swap_max_usage = 0
    return result


def _memory_events(stats: MemoryStats) -> v2.MemoryEvents | None:
    events = memory_events(stats.stats)
    names = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
    return v2.MemoryEvents(**{name: events.get(name, 0) for name in names}) if events else None


def _pids(stats: PidsStats) -> v2.PidsStat:
    return v2.PidsStat(current=stats.current, limit=limit(stats.limit))


def _io(stats: BlkioStats) -> v2.IoStat:
    """One entry per device, from the entries per device and direction."""
    devices: dict[tuple[int, int], v2.IoEntry] = {}
    kinds = (
        (stats.io_service_bytes_recursive, "rbytes", "wbytes"),
        (stats.io_serviced_recursive, "rios", "wios"),
    )
    for entries, read, written in kinds:
        for entry in entries:
            field = {"r": read, "w": written}.get(entry.op[:1].lower())
            if field is not None:
                number = (entry.major, entry.minor)
                device = devices.setdefault(number, v2.IoEntry(major=entry.major, minor=entry.minor))
                setattr(device, field, entry.value)
    return v2.IoStat(usage=list(devices.values()))


def _hugetlb(size: str, stats: HugetlbStats) -> v2.HugeTlbStat:
    return v2.HugeTlbStat(current=stats.usage, max=stats.max_usage, failcnt=stats.failcnt, pagesize=size)


def _network(stats: NetworkStats) -> v2.NetworkStat:
    return v2.NetworkStat(
        name=stats.name,
        rx_bytes=stats.rx_bytes,
        rx_packets=stats.rx_packets,
        rx_errors=stats.rx_errors,
        rx_dropped=stats.rx_dropped,
        tx_bytes=stats.tx_bytes,
        tx_packets=stats.tx_packets,
        tx_errors=stats.tx_errors,
        tx_dropped=stats.tx_dropped,
    )
