"""Metrics of one process of the host, from /proc (proc(5)), under the names that Kata has for them.

Sizes are bytes, `proc_stat` is in clock ticks. What can't be read, as of a process that is gone, is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from shim.management.exposition import Family

_STATUS_ITEMS = frozenset(
    {
        *("vmpeak", "vmsize", "vmlck", "vmpin", "vmhwm", "vmrss", "rssanon", "rssfile", "rssshmem", "vmdata", "vmstk"),
        *("vmexe", "vmlib", "vmpte", "vmswap", "hugetlbpages", "voluntary_ctxt_switches"),
        "nonvoluntary_ctxt_switches",
    }
)
#: Fields of /proc/pid/stat behind the name in parentheses.
_STAT_ITEMS = {"utime": 11, "stime": 12, "cutime": 13, "cstime": 14}
_STAT_THREADS = 17
_LINE = re.compile(r"(\w+):\s+([0-9]+)( kB)?")


def families(pid: int, prefix: str, what: str, proc: Path = Path("/proc")) -> Iterator[Family]:
    """All families of the process `pid`; `prefix` begins their names, `what` names it in their help."""
    directory = proc / str(pid)
    fields = _text(directory / "stat").rpartition(")")[2].split()
    if len(fields) > _STAT_THREADS:
        yield Family(f"{prefix}_threads", "gauge", f"Threads of {what}.").add(int(fields[_STAT_THREADS]))
        stat = Family(f"{prefix}_proc_stat", "gauge", f"CPU time of {what}, in clock ticks.")
        for item, position in _STAT_ITEMS.items():
            stat.add(int(fields[position]), item=item)
        yield stat
    descriptors = _count(directory / "fd")
    if descriptors is not None:
        yield Family(f"{prefix}_fds", "gauge", f"Open file descriptors of {what}.").add(descriptors)
    yield from _items(f"{prefix}_proc_status", f"Memory (bytes) and context switches of {what}.", directory / "status")
    yield from _items(f"{prefix}_io_stat", f"Input and output of {what}.", directory / "io")


def _items(name: str, about: str, path: Path) -> Iterator[Family]:
    """A family with an item for each numeric line of a file; of /proc/pid/status only those that Kata tells."""
    family = Family(name, "gauge", about)
    for line in _text(path).splitlines():
        if found := _LINE.fullmatch(line):
            item = found[1].lower()
            if path.name != "status" or item in _STATUS_ITEMS:
                family.add(int(found[2]) << 10 if found[3] else int(found[2]), item=item)
    if family.samples:
        yield family


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _count(directory: Path) -> int | None:
    try:
        return len(os.listdir(directory))
    except OSError:
        return None
