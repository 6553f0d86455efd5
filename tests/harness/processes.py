"""The process table as /proc shows it: who descends from whom, what a process is called, what it costs."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One process: the start time (clock ticks since boot) makes the pid unique."""

    pid: int
    parent: int
    start_time: int
    state: str
    name: str
    command: str

    def __str__(self) -> str:
        dead = " (zombie)" if self.state == "Z" else ""
        return f"pid {self.pid}{dead}: {self.command[:160] or self.name}"


def read_process(pid: int) -> Process | None:
    """What /proc says about `pid`; None if it is gone."""
    directory = PROC / str(pid)
    try:
        stat = (directory / "stat").read_text(errors="replace")
        words = (directory / "cmdline").read_bytes()
    except OSError:
        return None
    name_end = stat.rindex(")")
    fields = stat[name_end + 2 :].split()
    command = words.replace(b"\0", b" ").decode(errors="replace").strip()
    name = stat[stat.index("(") + 1 : name_end]
    return Process(pid, int(fields[1]), int(fields[19]), fields[0], name, command)


def process_table() -> dict[int, Process]:
    """All processes that this PID namespace shows, by pid."""
    found = (read_process(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdecimal())
    return {process.pid: process for process in found if process is not None}


def descendants(roots: Iterable[int], table: dict[int, Process] | None = None) -> list[Process]:
    """All processes below `roots` (the roots themselves are not among them)."""
    table = process_table() if table is None else table
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = list(roots)
    while waiting:
        below = children.get(waiting.pop(), [])
        found.extend(below)
        waiting.extend(process.pid for process in below)
    return sorted(set(found), key=lambda process: process.pid)


def find(pattern: str, among: Iterable[Process] | None = None) -> list[Process]:
    """Living processes whose command line matches the regular expression `pattern`."""
    processes = process_table().values() if among is None else among
    expression = re.compile(pattern)
    return [one for one in processes if one.state != "Z" and expression.search(one.command)]


def is_alive(pid: int) -> bool:
    """Whether `pid` names a process that has not ended (a zombie has)."""
    process = read_process(pid)
    return process is not None and process.state not in "ZX"


def wait_gone(pid: int, timeout: float) -> bool:
    """Wait until `pid` has ended, at most `timeout` seconds; works for processes that are not our children."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], timeout)[0]) or not is_alive(pid)
    finally:
        os.close(pidfd)


def memory_kib(pid: int, field: str = "Pss") -> int:
    """A field of `/proc/pid/smaps_rollup` in KiB; raises `OSError` (process gone) or `KeyError` (no such field)."""
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key == field:
            return int(rest.split()[0])
    raise KeyError(field)
