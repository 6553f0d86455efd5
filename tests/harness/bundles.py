"""OCI bundles made by hand: for running a shim without containerd, as containerd's own runtime manager would."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_MKNOD"]

_MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
]


def spec(command: Sequence[str], annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A minimal OCI spec (runtime-spec 1.0.2) that both runc and a virtual machine run, with the root in `rootfs`."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(command),
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "mounts": _MOUNTS,
        "annotations": dict(annotations or {}),
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
    }


class Bundle:
    """A bundle as containerd leaves it for `start`: config.json, an empty rootfs, and the log FIFO with its reader.

    Life: made, used, `close`. The directory is the caller's to remove.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any] | None) -> None:
        self.path = directory
        (directory / "rootfs").mkdir(parents=True)
        if config is not None:
            (directory / "config.json").write_text(json.dumps(config))
        os.mkfifo(directory / "log", 0o700)
        # As containerd does: the FIFO always has a reader, so that no writer blocks.
        self._log = os.open(directory / "log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def read_log(self) -> str:
        """What was logged since the last call."""
        chunks = []
        try:
            while chunk := os.read(self._log, 65536):
                chunks.append(chunk)
        except BlockingIOError:
            pass
        return b"".join(chunks).decode(errors="replace")

    def close(self) -> None:
        """Close the reader; idempotent."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
