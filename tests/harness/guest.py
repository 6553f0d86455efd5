"""Proof of where a program ran: the host's own facts, to be told apart from a guest's."""

from __future__ import annotations

import os
from pathlib import Path

#: Prints the kernel release and the boot id of wherever it runs, a line each.
IDENTITY_COMMAND = ("sh", "-c", "uname -r; cat /proc/sys/kernel/random/boot_id")


def host_kernel() -> str:
    """The host's `uname -r`."""
    return os.uname().release


def host_boot_id() -> str:
    """The host's boot id: one per boot of a kernel, so two containers with one boot id share a kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity(output: str) -> tuple[str, str]:
    """Kernel release and boot id from the output of `IDENTITY_COMMAND`; raises `ValueError` for anything else."""
    lines = output.split()
    if len(lines) != 2:
        raise ValueError(f"expected a kernel release and a boot id, got {output!r}")
    return lines[0], lines[1]
