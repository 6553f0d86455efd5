"""`[factory]`: ready-made VMs, by template or from a cache."""

# ruff: noqa: RUF009 (`key` makes a field whose default is immutable)

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.keys import ignored, key
from config.rules import AbsolutePath, Flag, Integer

_COLD = ignored("every VM boots cold in this version")


@dataclass(frozen=True, kw_only=True)
class FactoryConfig:
    """Keys of `[factory]`."""

    enable_template: bool = key(
        False,
        Flag(),
        "Start VMs as clones of a saved template instead of booting each. Clones share what the template's "
        "kernel drew at boot (address layout, kernel secrets).",
        pending=_COLD,
    )
    template_path: Path = key(
        Path("/run/vc/vm/template"),
        AbsolutePath(),
        "Directory of the templates; on tmpfs, as the template's memory lives there.",
        pending=_COLD,
    )
    vm_cache_number: int = key(
        0, Integer(0, 1024, "VMs"), "How many ready VMs the cache keeps; 0 means no cache.", pending=_COLD
    )
    vm_cache_endpoint: Path = key(
        Path("/var/run/kata-containers/cache.sock"),
        AbsolutePath(),
        "UNIX socket of the VM cache's gRPC service.",
        pending=_COLD,
    )
