"""The templates of a store as its owner sees them: what there is, and how it goes. Standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypervisor.errors import HypervisorError
from hypervisor.template.store import FORMAT, KEY_LENGTH, MANIFEST, MEMORY, STATE


@dataclass(frozen=True)
class Listed:
    """One template. `age` is in seconds, `size` what its files take of the host's memory, in bytes."""

    key: str
    age: float
    size: int
    format: int
    #: What was saved: `vcpus`, `memory_mib`, `accelerator`, `kernel`, `initrd`, `image`; empty if it does not say.
    vm: Mapping[str, Any]

    @property
    def is_current(self) -> bool:
        """Whether this runtime could use it, as far as its format goes."""
        return self.format == FORMAT


def listing(root: Path) -> list[Listed]:
    """All templates of the store at `root`, the youngest first; none if there is no store."""
    try:
        places = [path for path in root.iterdir() if len(path.name) == KEY_LENGTH]
    except OSError:
        return []
    return sorted((_listed(place) for place in places), key=lambda one: (one.age, one.key))


def chosen(root: Path, prefix: str) -> list[Listed]:
    """The templates whose key begins so; all with an empty prefix. Raises `HypervisorError` if no key does."""
    found = [one for one in listing(root) if one.key.startswith(prefix)]
    if prefix and not found:
        raise HypervisorError(f"there is no template {prefix} in {root}")
    return found


def _listed(place: Path) -> Listed:
    """A template that can't be read is one all the same: of format 0, for it is to be seen and removed."""
    try:
        about = json.loads((place / MANIFEST).read_text())
        age, version, vm = time.time() - float(about["created"]), int(about["format"]), dict(about["vm"])
    except (OSError, ValueError, TypeError, KeyError):
        age, version, vm = 0.0, 0, {}
    return Listed(place.name, age, sum(_size(place / name) for name in (MEMORY, STATE)), version, vm)


def _size(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0
