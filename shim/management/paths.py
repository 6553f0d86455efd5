"""Where the management socket of a pod is."""

from __future__ import annotations

from pathlib import Path

#: Its name in the run directory, by which Kata's tools find it.
SOCKET = "shim-monitor.sock"


def socket_in(run_dir: Path) -> Path:
    """The management socket of the pod with this run directory."""
    return run_dir / SOCKET
