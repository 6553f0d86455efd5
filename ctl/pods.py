"""The pods of this node, by the journals in their run directories. A journal may be missing, half-written or stale."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctl.errors import CtlError
from sandbox import rundir
from shim.management.paths import socket_in

#: How a run directory is named: the sandbox' id and a hash (`sandbox.rundir.run_dir_for`).
_NAME = re.compile(r"(.+)-[0-9a-f]{8}")
_MARKS = ("lock", "state.json")


@dataclass(frozen=True)
class PodEntry:
    """One pod, as its run directory shows it."""

    run_dir: Path
    journal: Mapping[str, Any] = field(repr=False)
    #: Pids of the daemon and its helpers that live, by name.
    living: Mapping[str, int]
    #: Seconds since its daemon made the run directory.
    age: float

    @property
    def id(self) -> str:
        """The sandbox' id."""
        found = _NAME.fullmatch(self.run_dir.name)
        return text(self.journal, "sandbox_id") or (found[1] if found else self.run_dir.name)

    @property
    def namespace(self) -> str:
        """containerd's namespace; empty if the journal does not tell."""
        return text(self.journal, "namespace")

    @property
    def pid(self) -> int:
        """The daemon's pid; 0 if it does not live."""
        return self.living.get("daemon", 0)

    @property
    def state(self) -> str:
        """`starting`, `running`, `lost` (its VM has ended) or `dead` (its daemon has; `delete` clears it)."""
        if not self.pid:
            return "dead"
        if not self.facts("start"):
            return "starting"
        return "running" if "qemu" in self.living else "lost"

    def facts(self, part: str) -> Mapping[str, Any]:
        """What was journalled when the sandbox was up: `pod`, `vm` or `start`; empty before."""
        return table(table(self.journal, "started"), part)

    @property
    def socket(self) -> Path:
        """Its management socket."""
        return socket_in(self.run_dir)


def table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table in a journal; empty if it is anything else."""
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def text(values: Mapping[str, Any], name: str) -> str:
    """A string in a journal, as one printable line; empty if it is anything else."""
    value = values.get(name)
    if not isinstance(value, str):
        return ""
    return "".join(char if char.isprintable() else "?" for char in value[:1000])


def number(values: Mapping[str, Any], name: str) -> float:
    """A number in a journal; 0 if it is anything else."""
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def find_all(root: Path | None = None) -> list[PodEntry]:
    """All pods, the oldest first. Raises `CtlError` when they can't be looked at."""
    parent = root or rundir.ROOT
    try:
        directories = [path for path in parent.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CtlError(f"{parent}: {error.strerror} (root is needed)") from error
    entries = [entry for path in directories if (entry := _entry(path))]
    return sorted(entries, key=lambda entry: (-entry.age, entry.run_dir.name))


def _entry(run_dir: Path) -> PodEntry | None:
    """The pod of a run directory; None for a directory that no shim has made, or that is gone by now."""
    times = []
    for mark in _MARKS:
        try:
            times.append((run_dir / mark).stat().st_mtime)
        except OSError:
            continue
    if not times:
        return None
    journal = rundir.read_journal(run_dir)
    return PodEntry(run_dir, journal, rundir.living(journal), max(0.0, time.time() - times[0]))


def find(wanted: str, root: Path | None = None) -> PodEntry:
    """The pod with this id, or the name of its run directory, or the only one whose id begins so.

    Raises `CtlError`.
    """
    pods = find_all(root)
    for matches in (
        [pod for pod in pods if wanted in (pod.id, pod.run_dir.name)],
        [pod for pod in pods if wanted and pod.id.startswith(wanted)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = " ".join(pod.run_dir.name for pod in matches[:10])
            raise CtlError(f"{wanted!r} is more than one sandbox: say which of {names}")
    raise CtlError(f"no sandbox {wanted!r} on this node: kata-ctl list shows what there is")
