"""Kubernetes' volumes by their places below the kubelet's directory: pure.

`<root>/pods/<uid>/volumes/kubernetes.io~empty-dir/<name>` is an emptyDir; a container that mounts only a part of a
volume (`subPath`) gets `<root>/pods/<uid>/volume-subpaths/<name>/<container>/<number>`, where the kubelet has bound it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_EMPTY_DIR = "kubernetes.io~empty-dir"


@dataclass(frozen=True)
class EmptyDir:
    """An emptyDir volume: its name in the pod, its directory, and which part of it is mounted (`""`: all)."""

    name: str
    directory: str
    part: str = ""


def empty_dir(source: str, kubelet_root: Path) -> EmptyDir | None:
    """The emptyDir that a mount's source is, or may be a part of; None for everything else."""
    try:
        parts = PurePosixPath(source).relative_to(kubelet_root).parts
    except ValueError:
        return None
    if len(parts) < 5 or parts[0] != "pods" or ".." in parts:
        return None
    pod = kubelet_root / "pods" / parts[1]
    if parts[2:4] == ("volumes", _EMPTY_DIR):
        directory = pod / "volumes" / _EMPTY_DIR / parts[4]
        return EmptyDir(parts[4], str(directory), "/".join(parts[5:]))
    if parts[2] == "volume-subpaths" and len(parts) == 6:
        return EmptyDir(parts[3], str(pod / "volumes" / _EMPTY_DIR / parts[3]))
    return None


def bound_part(root: str, volume_root: str) -> str | None:
    """Which part of a volume is bound somewhere: `root` and `volume_root` are both paths on its file system.

    None if it is no part of it.
    """
    try:
        part = PurePosixPath(root).relative_to(volume_root)
    except ValueError:
        return None
    return "" if str(part) == "." else str(part)
