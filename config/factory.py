"""`[factory]`: ready-made VMs, by template or from a cache."""

# ruff: noqa: RUF009 (`key` makes a field whose default is immutable)

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.keys import key
from config.rules import AbsolutePath, Choice, Flag, Integer


@dataclass(frozen=True, kw_only=True)
class FactoryConfig:
    """Keys of `[factory]`."""

    enable_template: bool = key(
        False,
        Flag(),
        "Start VMs as clones of a saved template instead of booting each. Clones share what the template's "
        "kernel drew at boot (address layout, kernel secrets).",
    )
    template_path: Path = key(
        Path("/run/vc/vm/template"),
        AbsolutePath(),
        "Directory of the templates. If it is not on a tmpfs, a directory of /dev/shm named after it is used, "
        "for the templates' memory is mapped from there.",
    )
    template_memory: str = key(
        "auto",
        Choice(("auto", "private", "copy")),
        "How a clone has the template's memory: `private` (a view of its own, whose pages are shared until it writes "
        "to them), `copy` (needed for virtio-fs), or `auto`, which copies only where it has to. Not a key of Kata's.",
    )
    template_max_age: int = key(
        86400,
        Integer(60, 31536000, "s"),
        "For how long clones are made of one template, in seconds; then it is built anew. Not a key of Kata's.",
    )
    vm_cache_number: int = key(
        0,
        Integer(0, 1024, "VMs"),
        "How many ready VMs the cache keeps (`kata-ctl cache start`); 0 means no cache, and pods don't ask for one.",
    )
    vm_cache_endpoint: Path = key(
        Path("/var/run/kata-containers/cache.sock"),
        AbsolutePath(),
        "UNIX socket of the VM cache's gRPC service.",
    )
