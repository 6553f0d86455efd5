"""OCI specs for containers of the tests: what containerd's own defaults are, and what a test asks for on top."""

from __future__ import annotations

import copy
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.harness.images import BUSYBOX, standard_images

#: containerd's default capabilities (`oci.defaultUnixCaps`).
CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
]

_NO_EXEC = ["nosuid", "noexec", "nodev"]
_MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": _NO_EXEC},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_NO_EXEC, "ro"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*_NO_EXEC, "ro"]},
]

_KIND = "io.kubernetes.cri.container-type"
_SANDBOX_ID = "io.kubernetes.cri.sandbox-id"


def pod_annotations(kind: str, pod: str) -> dict[str, str]:
    """What makes a container a pod's own (`sandbox`) or one of a pod's (`container`)."""
    return {_KIND: kind, _SANDBOX_ID: pod}


def spec(
    command: Sequence[str],
    root: Path,
    *,
    process: Mapping[str, Any] | None = None,
    linux: Mapping[str, Any] | None = None,
    mounts: Sequence[Mapping[str, Any]] = (),
    readonly: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """A spec that runs `command` on `root`; `process`, `linux` and `settings` replace keys, `mounts` are added."""
    capabilities = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    spec: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(command),
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": capabilities,
            "noNewPrivileges": True,
            **(process or {}),
        },
        "root": {"path": str(root), "readonly": readonly},
        "mounts": [*_MOUNTS, *mounts],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            **(linux or {}),
        },
        **settings,
    }
    return copy.deepcopy(spec)


def bind(source: Path, destination: str, *options: str) -> dict[str, Any]:
    """A bind mount; `options` beside `rbind`."""
    return {"type": "bind", "source": str(source), "destination": destination, "options": ["rbind", *options]}


def unpack_root(directory: Path) -> Path:
    """The standard image's root file system, unpacked into `directory` unless it is there; returns `directory`."""
    if not directory.exists():
        directory.mkdir(parents=True)
        image = next(one for one in standard_images() if one.name == BUSYBOX)
        for layer in image.layers:
            with tarfile.open(fileobj=io.BytesIO(layer.tar())) as archive:
                archive.extractall(directory)
    return directory


def json_text(spec: Mapping[str, Any]) -> str:
    """A spec as it is in config.json."""
    return json.dumps(spec)
