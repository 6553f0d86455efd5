"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

_VERSIONS = {
    "QEMU": ["qemu-system-x86_64", "--version"],
    "containerd": ["containerd", "--version"],
    "runc": ["runc", "--version"],
}


def describe() -> dict[str, str]:
    """The machine and the programs, in words, in the order to show them."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} logical",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) // 1024} MiB",
        "kernel": platform.release(),
        "virtualisation": virtualisation(Path("/proc/cpuinfo").read_text(), Path("/dev/kvm").exists()),
        "load before": " ".join(f"{one:.2f}" for one in os.getloadavg()),
        "Python": platform.python_version(),
        **{name: _first_line(command) for name, command in _VERSIONS.items()},
    }


def virtualisation(cpuinfo: str, has_kvm: bool) -> str:
    """Whether guests can run on the CPU: a /dev/kvm alone does not say so, a `vmx` or `svm` flag does."""
    flags = next((line.split(":", 1)[1].split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    if has_kvm and ({"vmx", "svm"} & set(flags)):
        return "KVM"
    return "none: guests run under QEMU's emulation (TCG)"


def _field(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except OSError:
        return "not installed"
    return (done.stdout.decode(errors="replace").splitlines() or ["unknown"])[0]
