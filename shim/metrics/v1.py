"""`io.containerd.cgroups.v1.Metrics` from the agent's statistics."""

from __future__ import annotations

from protos.gen.grpc import (
    BlkioStats,
    BlkioStatsEntry,
    CpuStats,
    HugetlbStats,
    MemoryData,
    MemoryStats,
    NetworkStats,
    PidsStats,
    StatsContainerResponse,
)
from protos.gen.io.containerd.cgroups import v1
from shim.metrics.unified import rdma_v1
from shim.metrics.values import UNLIMITED, first_of, is_version_1, limit, memory_events, swap_limit, with_swap

# Field of the message: the names of its value in memory.stat, cgroup v1's first.
_MEMORY = {
    "cache": ("cache", "file"),
    "rss": ("rss", "anon"),
    "rss_huge": ("rss_huge", "anon_thp"),
    "mapped_file": ("mapped_file", "file_mapped"),
    "dirty": ("dirty", "file_dirty"),
    "writeback": ("writeback", "file_writeback"),
    "pg_pg_in": ("pgpgin",),
    "pg_pg_out": ("pgpgout",),
    "pg_fault": ("pgfault",),
    "pg_maj_fault": ("pgmajfault",),
    "inactive_anon": ("inactive_anon",),
    "active_anon": ("active_anon",),
    "inactive_file": ("inactive_file",),
    "active_file": ("active_file",),
    "unevictable": ("unevictable",),
}
# Version 2 counts a whole hierarchy always, so its values are the totals too.
_TOTALS = {f"total_{field}": (f"total_{names[0]}", *names) for field, names in _MEMORY.items()}


def metrics(stats: StatsContainerResponse) -> v1.Metrics:
    """The message; what the agent does not know is absent from it."""
    cgroup = stats.cgroup_stats
    result = v1.Metrics(network=[_network(item) for item in stats.network_stats])
    if cgroup is not None:
        result.cpu = _cpu(cgroup.cpu_stats) if cgroup.cpu_stats is not None else None
        if cgroup.memory_stats is not None:
            result.memory = _memory(cgroup.memory_stats, cgroup.unified is not None)
            result.memory_oom_control = _oom_control(cgroup.memory_stats)
        result.pids = _pids(cgroup.pids_stats) if cgroup.pids_stats is not None else None
        result.blkio = _blkio(cgroup.blkio_stats) if cgroup.blkio_stats is not None else None
        result.hugetlb = [_hugetlb(size, item) for size, item in sorted(cgroup.hugetlb_stats.items())]
        if (unified := cgroup.unified) is not None:
            result.rdma = rdma_v1(unified.rdma_current, unified.rdma_limit)
    return result


def _cpu(stats: CpuStats) -> v1.CpuStat:
    result = v1.CpuStat()
    if (usage := stats.cpu_usage) is not None:
        result.usage = v1.CpuUsage(
            total=usage.total_usage,
            kernel=usage.usage_in_kernelmode,
            user=usage.usage_in_usermode,
            per_cpu=list(usage.percpu_usage),
        )
    if (throttling := stats.throttling_data) is not None:
        result.throttling = v1.Throttle(
            periods=throttling.periods,
            throttled_periods=throttling.throttled_periods,
            throttled_time=throttling.throttled_time,
        )
    return result


def _memory(stats: MemoryStats, is_ours: bool) -> v1.MemoryStat:
    swap = _swap(stats, is_ours)
    result = v1.MemoryStat(usage=_entry(stats.usage), swap=swap, kernel=_entry(stats.kernel_usage))
    if "sock" in stats.stats:
        result.kernel_tcp = v1.MemoryEntry(limit=UNLIMITED, usage=stats.stats["sock"])
    for field, names in (_MEMORY | _TOTALS).items():
        setattr(result, field, first_of(stats.stats, names))
    result.cache = result.cache or stats.cache
    result.hierarchical_memory_limit = _hierarchical(stats, "hierarchical_memory_limit", stats.usage)
    if "hierarchical_memsw_limit" in stats.stats:
        result.hierarchical_swap_limit = limit(stats.stats["hierarchical_memsw_limit"])
    else:
        result.hierarchical_swap_limit = swap.limit if swap is not None else UNLIMITED
    return result


def _swap(stats: MemoryStats, is_ours: bool) -> v1.MemoryEntry | None:
    """Version 1 counts memory and swap together (`memory.memsw.*`), version 2 swap alone; how high both were together
    is then not known.
    """
    data, memory = stats.swap_usage, stats.usage
    if data is None or memory is None or is_version_1(stats.stats):
        return _entry(data)
    return v1.MemoryEntry(
        limit=with_swap(limit(memory.limit), swap_limit(data.limit, is_ours)),
        usage=min(memory.usage + data.usage, UNLIMITED),
        failcnt=data.failcnt,
    )


def _oom_control(stats: MemoryStats) -> v1.MemoryOomControl | None:
    events = memory_events(stats.stats)
    return v1.MemoryOomControl(oom_kill=events["oom_kill"]) if "oom_kill" in events else None


def _hierarchical(stats: MemoryStats, name: str, data: MemoryData | None) -> int:
    if name in stats.stats:
        return limit(stats.stats[name])
    return limit(data.limit) if data is not None else UNLIMITED


def _entry(data: MemoryData | None) -> v1.MemoryEntry | None:
    if data is None:
        return None
    return v1.MemoryEntry(limit=limit(data.limit), usage=data.usage, max=data.max_usage, failcnt=data.failcnt)


def _pids(stats: PidsStats) -> v1.PidsStat:
    # cgroup v1's users, Docker among them, read 0 as "no limit" here.
    highest = limit(stats.limit)
    return v1.PidsStat(current=stats.current, limit=0 if highest == UNLIMITED else highest)


def _blkio(stats: BlkioStats) -> v1.BlkIoStat:
    return v1.BlkIoStat(
        io_service_bytes_recursive=_entries(stats.io_service_bytes_recursive),
        io_serviced_recursive=_entries(stats.io_serviced_recursive),
        io_queued_recursive=_entries(stats.io_queued_recursive),
        io_service_time_recursive=_entries(stats.io_service_time_recursive),
        io_wait_time_recursive=_entries(stats.io_wait_time_recursive),
        io_merged_recursive=_entries(stats.io_merged_recursive),
        io_time_recursive=_entries(stats.io_time_recursive),
        sectors_recursive=_entries(stats.sectors_recursive),
    )


def _entries(entries: list[BlkioStatsEntry]) -> list[v1.BlkIoEntry]:
    return [v1.BlkIoEntry(op=e.op, major=e.major, minor=e.minor, value=e.value) for e in entries]


def _hugetlb(size: str, stats: HugetlbStats) -> v1.HugetlbStat:
    return v1.HugetlbStat(usage=stats.usage, max=stats.max_usage, failcnt=stats.failcnt, pagesize=size)


def _network(stats: NetworkStats) -> v1.NetworkStat:
    return v1.NetworkStat(
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
