"""`kata-ctl factory`: builds, lists and drops the templates that pods' VMs are cloned from."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import config
from config import Config, ConfigError
from ctl import programs
from ctl.errors import CtlError
from ctl.tables import columns, duration
from hypervisor.errors import HypervisorError
from hypervisor.template.listing import chosen, listing
from hypervisor.template.place import home
from hypervisor.template.store import TemplateStore

_HEADING = ("KEY", "AGE", "SIZE", "CPUS", "MEMORY", "FORMAT", "KERNEL", "IMAGE")
_MIB = 1 << 20


def become_builder(file: Path | None) -> NoReturn:
    """Be the program that builds the template of the configuration, with the libraries that drive a VM."""
    programs.become("sandbox.factory.main", [str(file.absolute())] if file else [])


def status(file: Path | None) -> str:
    """Where templates are kept, and a line for each. Raises `CtlError`."""
    store = _home(_load(file))
    rows = [
        (
            one.key,
            duration(one.age),
            f"{one.size / _MIB:.0f} MiB",
            str(one.vm.get("vcpus", "?")),
            f"{one.vm.get('memory_mib', '?')} MiB",
            f"{one.format}" if one.is_current else f"{one.format} (of no use)",
            str(one.vm.get("kernel") or "-"),
            str(one.vm.get("image") or one.vm.get("initrd") or "-"),
        )
        for one in listing(store)
    ]
    noun = "template" if len(rows) == 1 else "templates"
    return f"{store}: {len(rows) or 'no'} {noun}" + (f"\n{columns([_HEADING, *rows])}" if rows else "")


def destroy(file: Path | None, key: str) -> str:
    """Drop the templates whose key begins so, or all; pods that are clones of them go on. Raises `CtlError`."""
    store = _home(_load(file))
    try:
        found = chosen(store, key)
        TemplateStore(store, str, 0.0).remove([one.key for one in found])
    except (HypervisorError, OSError) as error:
        raise CtlError(str(error)) from error
    return "\n".join(f"template {one.key} is gone" for one in found) or f"{store}: no templates"


def _load(file: Path | None) -> Config:
    try:
        return config.load(file and file.absolute())
    except ConfigError as error:
        raise CtlError(str(error)) from error


def _home(settings: Config) -> Path:
    return home(settings.factory.template_path, Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
