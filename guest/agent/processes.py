"""What runs in a container: the guest's processes of its cgroup, told in the container's own terms."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

#: More than that is cut off: an answer must fit a ttrpc frame.
MAX_PROCESSES = 4096
COMMAND_LIMIT = 256
_READ_LIMIT = 1 << 14


def listed(cgroup: str, proc: str, exec_ids: Mapping[int, str]) -> list[dict[str, Any]]:
    """The processes in the cgroup directory and below it, oldest first.

    Each has `pid` and `ppid` as its container sees them (0 for a parent outside), `guest_pid` as the guest does, `uid`,
    `command` (its arguments, or its name in brackets if it has none) and `exec_id` (of those in `exec_ids`, by guest
    pid; empty for others). What ends meanwhile is left out.
    """
    found: dict[int, dict[str, Any]] = {}
    parents: dict[int, int] = {}
    for guest_pid in _pids(cgroup):
        entry = _entry(proc, guest_pid)
        if entry is None:
            continue
        parents[guest_pid] = entry.pop("guest_ppid")
        found[guest_pid] = {**entry, "exec_id": exec_ids.get(guest_pid, "")}
        if len(found) >= MAX_PROCESSES:
            break
    for guest_pid, entry in found.items():
        parent = found.get(parents[guest_pid])
        entry["ppid"] = parent["pid"] if parent else 0
    return [found[guest_pid] for guest_pid in sorted(found)]


def _pids(cgroup: str) -> Iterator[int]:
    """A container with a cgroup namespace of its own may have made cgroups below."""
    for directory, _, _ in os.walk(cgroup):
        yield from (int(word) for word in _text(f"{directory}/cgroup.procs", 1 << 20).split())


def _entry(proc: str, pid: int) -> dict[str, Any] | None:
    fields = {
        name: words.split()
        for name, _, words in (line.partition(":") for line in _text(f"{proc}/{pid}/status", _READ_LIMIT).splitlines())
    }
    try:
        return {
            "pid": int(fields.get("NSpid", [str(pid)])[-1]),
            "guest_pid": pid,
            "guest_ppid": int(fields["PPid"][0]),
            "uid": int(fields["Uid"][0]),
            "command": _command(proc, pid, " ".join(fields["Name"])),
        }
    except (KeyError, IndexError, ValueError):
        return None


def _command(proc: str, pid: int, name: str) -> str:
    arguments = _text(f"{proc}/{pid}/cmdline", 4 * COMMAND_LIMIT).replace("\0", " ").strip()
    text = arguments or f"[{name}]"
    return "".join(char if char.isprintable() else "?" for char in text[:COMMAND_LIMIT])


def _text(path: str, limit: int) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except OSError:
        return ""
