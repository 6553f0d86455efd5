"""`kata-ctl list` and `kata-ctl inspect`: what pods there are, and all that is known of one."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from ctl.pods import PodEntry, find_all, number, text
from ctl.tables import columns, duration
from shim.management.client import ManagementError, ask

#: Seconds that a pod has to tell its part of `inspect`.
ASK_TIMEOUT = 3.0
_HEADING = ("SANDBOX", "NAMESPACE", "POD", "PID", "AGE", "STATE", "SIZE", "ACCELERATOR", "START")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") >> 10


def as_text() -> str:
    """A table of all pods."""
    return columns([_HEADING, *(_row(pod) for pod in find_all())])


def _row(pod: PodEntry) -> tuple[str, ...]:
    vm, start, names = pod.facts("vm"), pod.facts("start"), pod.facts("pod")
    size = f"{number(vm, 'vcpus'):g} vCPU {number(vm, 'memory_mib'):g} MiB" if vm else "-"
    took = f"{text(start, 'kind')} {number(start, 'total'):.2f}s" if start else "-"
    name = "/".join(filter(None, (text(names, "namespace"), text(names, "name")))) or "-"
    accelerator = text(vm, "accelerator") or "-"
    pid = str(pod.pid or "-")
    return pod.id, pod.namespace or "-", name, pid, duration(pod.age), pod.state, size, accelerator, took


def as_json() -> str:
    """All pods as a JSON array."""
    return json.dumps([_summary(pod) for pod in find_all()], indent=2)


def _summary(pod: PodEntry) -> dict[str, Any]:
    return {
        "sandbox_id": pod.id,
        "namespace": pod.namespace,
        "run_dir": str(pod.run_dir),
        "state": pod.state,
        "pid": pod.pid,
        "age_seconds": round(pod.age, 1),
        **{part: dict(pod.facts(part)) for part in ("pod", "vm", "start")},
    }


def inspect(pod: PodEntry) -> str:
    """All that is known of a pod, as JSON: its journal, its processes, and what its daemon says."""
    processes = {name: _process(pid) for name, pid in pod.living.items()}
    return json.dumps(
        _summary(pod) | {"processes": processes, "daemon": _daemon(pod), "journal": dict(pod.journal)}, indent=2
    )


def _daemon(pod: PodEntry) -> Any:
    try:
        return json.loads(asyncio.run(ask(pod.socket, "GET", "/sandbox", timeout=ASK_TIMEOUT)))
    except (ManagementError, ValueError) as error:
        return {"error": str(error)}


def _process(pid: int, proc: Path = Path("/proc")) -> dict[str, Any]:
    """Memory, processor time and descriptors of a process; its pid alone if it is gone."""
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        descriptors = len(os.listdir(proc / str(pid) / "fd"))
    except OSError:
        return {"pid": pid}
    return {
        "pid": pid,
        "cpu_seconds": (int(stat[11]) + int(stat[12])) / _TICKS,
        "threads": int(stat[17]),
        "rss_kib": int(stat[21]) * _PAGE_KIB,
        "fds": descriptors,
    }
