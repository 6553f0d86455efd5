"""GetMetrics: the guest and the agent in Prometheus' text format, under the names that Kata's monitor collects."""

from __future__ import annotations

import os
from collections.abc import Iterator

#: One sample: labels and value.
Sample = tuple[dict[str, str], float]

_CPU_ITEMS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
_LINK_ITEMS = {
    "recv_bytes": 0,
    "recv_packets": 1,
    "recv_errs": 2,
    "recv_drop": 3,
    "sent_bytes": 8,
    "sent_packets": 9,
    "sent_errs": 10,
    "sent_drop": 11,
}
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def render(proc: str = "/proc") -> str:
    """All metrics of the guest now."""
    lines: list[str] = []
    for name, help_text, samples in _families(proc):
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(labels)} {value:g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _families(proc: str) -> Iterator[tuple[str, str, list[Sample]]]:
    yield "kata_guest_load", "Guest system load.", load(_text(f"{proc}/loadavg"))
    yield "kata_guest_tasks", "Guest scheduling entities.", tasks(_text(f"{proc}/loadavg"))
    yield "kata_guest_cpu_time", "Guest CPU time in ticks.", cpu_time(_text(f"{proc}/stat"))
    yield "kata_guest_meminfo", "Guest memory in bytes.", meminfo(_text(f"{proc}/meminfo"))
    yield "kata_guest_vm_stat", "Guest virtual memory statistics.", key_values(_text(f"{proc}/vmstat"))
    yield "kata_guest_netdev_stat", "Guest network device counters.", netdev(_text(f"{proc}/net/dev"))
    yield "kata_agent_process_cpu_seconds_total", "Agent CPU time in seconds.", agent_cpu(_text(f"{proc}/self/stat"))
    yield "kata_agent_proc_status", "Agent memory in bytes.", agent_memory(_text(f"{proc}/self/status"))


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
    """The cpu lines of /proc/stat; the sum of all is `total`."""
    result: list[Sample] = []
    for line in text.splitlines():
        name, *values = line.split()
        if name.startswith("cpu"):
            cpu = name[3:] or "total"
            result += [
                ({"cpu": cpu, "item": item}, float(value)) for item, value in zip(_CPU_ITEMS, values, strict=False)
            ]
    return result


def meminfo(text: str) -> list[Sample]:
    """/proc/meminfo, kilobytes turned into bytes."""
    result: list[Sample] = []
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[1].isdigit():
            scale = 1024 if words[-1] == "kB" else 1
            result.append(({"item": words[0].lower()}, float(int(words[1]) * scale)))
    return result


def key_values(text: str) -> list[Sample]:
    """Lines of `key number`."""
    pairs = (line.split() for line in text.splitlines())
    return [({"item": pair[0]}, float(pair[1])) for pair in pairs if len(pair) == 2 and pair[1].isdigit()]


def netdev(text: str) -> list[Sample]:
    """The counters of /proc/net/dev."""
    result: list[Sample] = []
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        values = rest.split()
        if colon and len(values) > 11:
            labels = {"interface": name.strip()}
            result += [({**labels, "item": item}, float(values[column])) for item, column in _LINK_ITEMS.items()]
    return result


def agent_cpu(text: str) -> list[Sample]:
    """User and system time in /proc/self/stat (proc(5): fields 14 and 15, counted after the name in parentheses)."""
    fields = text.rpartition(")")[2].split()
    return [({}, (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND)] if len(fields) > 12 else []


def agent_memory(text: str) -> list[Sample]:
    """The memory lines of /proc/self/status, kilobytes turned into bytes."""
    return [sample for sample in meminfo(text) if sample[0]["item"].startswith("vm")]


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
