"""GetMetrics: the guest and the agent in Prometheus' text format, with the names, labels and units of Kata's agent.

Sizes are bytes but for `kata_agent_proc_status`, which has the kernel's kilobytes; `kata_guest_cpu_time` is in
milliseconds, `kata_agent_proc_stat` in clock ticks. What the kernel doesn't tell is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

#: One sample: labels and value.
Sample = tuple[dict[str, str], float]
#: One metric: name, help, samples.
Family = tuple[str, str, list[Sample]]

_CPU_ITEMS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
_LINK_ITEMS = (
    *("recv_bytes", "recv_packets", "recv_errs", "recv_drop"),
    *("recv_fifo", "recv_frame", "recv_compressed", "recv_multicast"),
    *("sent_bytes", "sent_packets", "sent_errs", "sent_drop"),
    *("sent_fifo", "sent_colls", "sent_carrier", "sent_compressed"),
)
_DISK_ITEMS = (
    *("reads", "merged", "sectors_read", "time_reading"),
    *("writes", "writes_merged", "sectors_written", "time_writing"),
    *("in_progress", "time_in_progress", "weighted_time_in_progress"),
    *("discards", "discards_merged", "sectors_discarded", "time_discarding"),
    *("flushes", "time_flushing"),
)
_STATUS_ITEMS = re.compile(
    "vm(peak|size|lck|pin|hwm|rss|data|stk|exe|lib|pte|swap)|rss(anon|file|shmem)|hugetlbpages|(non)?voluntary_ctxt_switches"
)
#: Where /proc/self/stat has what, counted after the name in parentheses (proc(5): less 3).
_STAT = {"utime": 11, "stime": 12, "cutime": 13, "cstime": 14}
_STAT_THREADS, _STAT_VSIZE, _STAT_RSS = 17, 20, 21
#: Names of /proc/meminfo that are not plainly turned into Kata's.
_MEMORY_NAMES = {"Percpu": "per_cpu", "DirectMap4k": "direct_map_4k", "Committed_AS": "committed_as"}
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def render(scrapes: int, proc: str = "/proc") -> str:
    """All metrics of the guest now; `scrapes` is how often that was asked for, this time included."""
    lines: list[str] = []
    for name, help_text, samples in (*_agent(scrapes, proc), *_guest(proc)):
        if samples:
            kind = "counter" if name == "kata_agent_scrape_count" else "gauge"
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _agent(scrapes: int, proc: str) -> Iterator[Family]:
    stat = _text(f"{proc}/self/stat").rpartition(")")[2].split()
    yield "kata_agent_scrape_count", "Metrics scrape count", [({}, scrapes)]
    if len(stat) > _STAT_RSS:
        ticks = int(stat[_STAT["utime"]]) + int(stat[_STAT["stime"]])
        yield "kata_agent_threads", "Agent process threads", [({}, int(stat[_STAT_THREADS]))]
        yield "kata_agent_total_time", "Agent process total time", [({}, ticks / _TICKS_PER_SECOND)]
        yield "kata_agent_total_vm", "Agent process total VM size", [({}, int(stat[_STAT_VSIZE]))]
        yield "kata_agent_total_rss", "Agent process total RSS size", [({}, int(stat[_STAT_RSS]) * _PAGE)]
        items: list[Sample] = [({"item": item}, int(stat[column])) for item, column in _STAT.items()]
        yield "kata_agent_proc_stat", "Agent process statistics.", items
    yield "kata_agent_proc_status", "Agent process status.", process_status(_text(f"{proc}/self/status"))
    yield "kata_agent_io_stat", "Agent process IO statistics.", key_values(_text(f"{proc}/self/io"))


def _guest(proc: str) -> Iterator[Family]:
    yield "kata_guest_load", "Guest system load.", load(_text(f"{proc}/loadavg"))
    yield "kata_guest_tasks", "Guest scheduling entities.", tasks(_text(f"{proc}/loadavg"))
    yield "kata_guest_cpu_time", "Guest CPU statistics.", cpu_time(_text(f"{proc}/stat"))
    yield "kata_guest_vm_stat", "Guest virtual memory statistics.", key_values(_text(f"{proc}/vmstat"))
    yield "kata_guest_netdev_stat", "Guest net devices statistics.", netdev(_text(f"{proc}/net/dev"))
    yield "kata_guest_diskstat", "Disks statistics in system.", diskstat(_text(f"{proc}/diskstats"))
    yield "kata_guest_meminfo", "Statistics about memory usage in the system.", meminfo(_text(f"{proc}/meminfo"))


def load(text: str) -> list[Sample]:
    """The three averages of /proc/loadavg."""
    return [
        ({"item": item}, float(value)) for item, value in zip(("load1", "load5", "load15"), text.split(), strict=False)
    ]


def tasks(text: str) -> list[Sample]:
    """Runnable and existing tasks in /proc/loadavg."""
    words = text.split()
    current, slash, maximum = words[3].partition("/") if len(words) > 3 else ("", "", "")
    return [({"item": "cur"}, float(current)), ({"item": "max"}, float(maximum))] if slash else []


def cpu_time(text: str) -> list[Sample]:
    """The cpu lines of /proc/stat in milliseconds; the sum of all is `total`."""
    result: list[Sample] = []
    for line in text.splitlines():
        name, *values = line.split()
        if name.startswith("cpu"):
            times = zip(_CPU_ITEMS, values, strict=False)
            cpu = name[3:] or "total"
            result += [({"cpu": cpu, "item": item}, int(value) * 1000 / _TICKS_PER_SECOND) for item, value in times]
    return result


def meminfo(text: str) -> list[Sample]:
    """/proc/meminfo, kilobytes turned into bytes."""
    result: list[Sample] = []
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            result.append(({"item": memory_name(name)}, int(words[0]) * (1024 if words[-1] == "kB" else 1)))
    return result


def memory_name(name: str) -> str:
    """Kata's name for one of /proc/meminfo: `MemTotal` is mem_total, `Active(anon)` is active_anon."""
    if name in _MEMORY_NAMES:
        return _MEMORY_NAMES[name]
    if name.startswith("DirectMap"):
        return f"direct_map_{name[9:]}"
    plain = name.replace("HugePages", "_Hugepages").replace("(", "_").replace(")", "").strip("_")
    return re.sub(r"_+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", plain)).lower()


def key_values(text: str) -> list[Sample]:
    """Lines of `key number` or `key: number`."""
    pairs = (line.replace(":", " ").split() for line in text.splitlines())
    return [({"item": pair[0]}, int(pair[1])) for pair in pairs if len(pair) == 2 and pair[1].isdigit()]


def netdev(text: str) -> list[Sample]:
    """The counters of /proc/net/dev."""
    result: list[Sample] = []
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        values = rest.split()
        if colon and len(values) >= len(_LINK_ITEMS):
            items = zip(_LINK_ITEMS, values, strict=False)
            result += [({"interface": name.strip(), "item": item}, int(value)) for item, value in items]
    return result


def diskstat(text: str) -> list[Sample]:
    """The counters of /proc/diskstats (the kernel's iostats.rst); older kernels have fewer."""
    result: list[Sample] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 13:
            items = zip(_DISK_ITEMS, words[3:], strict=False)
            result += [({"disk": words[2], "item": item}, int(value)) for item, value in items]
    return result


def process_status(text: str) -> list[Sample]:
    """What of /proc/self/status Kata's agent tells, in kilobytes where it is memory."""
    result: list[Sample] = []
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if _STATUS_ITEMS.fullmatch(name.lower()) and words and words[0].isdigit():
            result.append(({"item": name.lower()}, int(words[0])))
    return result


def _number(value: float) -> str:
    """Whole numbers in full: a byte count must not be rounded to six digits."""
    return str(value) if isinstance(value, int) else str(int(value)) if value.is_integer() else repr(value)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 18)
    except OSError:
        return ""
