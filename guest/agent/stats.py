"""StatsContainer: a cgroup (v2) and the guest's links in the protocol's messages, whose shape is cgroup v1's.

What v1 has no field for travels in `memory_stats.stats`: every key of memory.stat under its own name, and every key of
memory.events as `memory.events.<key>`; the rest is in `unified`, which is not Kata's (`guest.agent.unified_stats`). "No
limit" is the largest unsigned 64-bit number for memory, as v1 has it, and 0 for pids.
"""

from __future__ import annotations

from guest.agent.cgroup import Cgroup, nested_keyed
from guest.agent.unified_stats import UNLIMITED, unified_stats
from protos.lean.gen.grpc import (
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
    ThrottlingData,
)

EVENTS_PREFIX = "memory.events."
_MICROSECOND = 1000
#: io.stat's keys, and the v1 names of the operations they count.
_BYTES = (("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard"))
_OPERATIONS = (("rios", "Read"), ("wios", "Write"), ("dios", "Discard"))
#: /proc/net/dev: column of each field of `NetworkStats` (proc(5)).
_COLUMNS = {
    "rx_bytes": 0,
    "rx_packets": 1,
    "rx_errors": 2,
    "rx_dropped": 3,
    "tx_bytes": 8,
    "tx_packets": 9,
    "tx_errors": 10,
    "tx_dropped": 11,
}


def cgroup_stats(cgroup: Cgroup) -> CgroupStats:
    """What the kernel has counted for a container; times are nanoseconds, sizes bytes.

    A message is absent where the kernel has not counted: nobody shall take an unknown for a zero.
    """
    sizes = _huge_page_sizes(cgroup)
    return CgroupStats(
        cpu_stats=_cpu(cgroup),
        memory_stats=_memory(cgroup),
        pids_stats=_pids(cgroup),
        blkio_stats=_block_io(cgroup),
        hugetlb_stats={size: _huge_pages(cgroup, size) for size in sizes},
        unified=unified_stats(cgroup, sizes),
    )


def _cpu(cgroup: Cgroup) -> CpuStats | None:
    stat = cgroup.pairs("cpu.stat")
    if "usage_usec" not in stat:
        return None
    usage = CpuUsage(
        total_usage=stat["usage_usec"] * _MICROSECOND,
        usage_in_kernelmode=stat.get("system_usec", 0) * _MICROSECOND,
        usage_in_usermode=stat.get("user_usec", 0) * _MICROSECOND,
    )
    if "nr_periods" not in stat:
        # Times are counted always, throttling by the controller.
        return CpuStats(cpu_usage=usage)
    throttling = ThrottlingData(
        periods=stat["nr_periods"],
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_time=stat.get("throttled_usec", 0) * _MICROSECOND,
    )
    return CpuStats(cpu_usage=usage, throttling_data=throttling)


def _memory(cgroup: Cgroup) -> MemoryStats | None:
    stat = cgroup.pairs("memory.stat")
    events = cgroup.pairs("memory.events")
    usage = _memory_data(cgroup, "memory", events)
    if usage is None and not stat:
        return None
    return MemoryStats(
        cache=stat.get("file", 0),
        usage=usage,
        swap_usage=_memory_data(cgroup, "memory.swap", cgroup.pairs("memory.swap.events")),
        kernel_usage=MemoryData(usage=stat["kernel"]) if "kernel" in stat else None,
        use_hierarchy=True,
        stats=stat | {EVENTS_PREFIX + key: value for key, value in events.items()},
    )


def _memory_data(cgroup: Cgroup, prefix: str, events: dict[str, int]) -> MemoryData | None:
    usage = cgroup.known(f"{prefix}.current")
    if usage is None:
        return None
    return MemoryData(
        usage=usage,
        max_usage=cgroup.number(f"{prefix}.peak"),
        failcnt=events.get("max", 0),
        limit=cgroup.number(f"{prefix}.max", UNLIMITED),
    )


def _pids(cgroup: Cgroup) -> PidsStats | None:
    current = cgroup.known("pids.current")
    return None if current is None else PidsStats(current=current, limit=cgroup.number("pids.max"))


def _block_io(cgroup: Cgroup) -> BlkioStats | None:
    if not cgroup.has("io.stat"):
        return None
    stat = nested_keyed(cgroup.text("io.stat"))
    return BlkioStats(
        io_service_bytes_recursive=_entries(stat, _BYTES), io_serviced_recursive=_entries(stat, _OPERATIONS)
    )


def _entries(stat: dict[str, dict[str, int]], operations: tuple[tuple[str, str], ...]) -> list[BlkioStatsEntry]:
    result: list[BlkioStatsEntry] = []
    for device, values in stat.items():
        major, _, minor = device.partition(":")
        if major.isdigit() and minor.isdigit():
            result += [
                BlkioStatsEntry(major=int(major), minor=int(minor), op=name, value=values[key])
                for key, name in operations
                if key in values
            ]
    return result


def _huge_page_sizes(cgroup: Cgroup) -> list[str]:
    """The sizes of huge pages that the kernel has and counts."""
    import os

    try:
        names = os.listdir(cgroup.path)
    except OSError:
        return []
    return sorted({name.split(".")[1] for name in names if name.startswith("hugetlb.") and name.count(".") == 2})


def _huge_pages(cgroup: Cgroup, size: str) -> HugetlbStats:
    return HugetlbStats(
        usage=cgroup.number(f"hugetlb.{size}.current"), failcnt=cgroup.pairs(f"hugetlb.{size}.events").get("max", 0)
    )


def network_stats(text: str) -> list[NetworkStats]:
    """The counters in the text of /proc/net/dev, without the loopback link."""
    result: list[NetworkStats] = []
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        columns = rest.split()
        if not colon or name.strip() == "lo" or len(columns) < 12:
            continue
        values = {field: int(columns[column]) for field, column in _COLUMNS.items()}
        result.append(NetworkStats(name=name.strip(), **values))
    return result
