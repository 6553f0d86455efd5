"""Processes of another parent that become this pod's: counted and killed as this process' own children would be."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from sandbox.resources import hierarchies

_log = logging.getLogger(__name__)


def join(pids: Iterable[int]) -> None:
    """Move processes into the cgroups of this one, and give them its `oom_score_adj`; never raises."""
    try:
        found = hierarchies.find(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
        own, score = (Path(f"/proc/self/{name}").read_text() for name in ("cgroup", "oom_score_adj"))
    except (OSError, ValueError) as error:
        _log.warning("the VM stays in the cgroup of the cache: %s", error)
        return
    places = [each.mount_point / each.current(own) / "cgroup.procs" for each in found]
    for pid in pids:
        for place, text in (*((place, str(pid)) for place in places), (Path(f"/proc/{pid}/oom_score_adj"), score)):
            _write(place, text)


def _write(place: Path, text: str) -> None:
    try:
        fd = os.open(place, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        _log.warning("%s can't be set for a VM of the cache: %s", place, error.strerror)
