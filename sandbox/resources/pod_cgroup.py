"""The cgroup in which a pod's daemon, QEMU with its vCPUs and virtiofsd are counted, and held to the limits above it.

The daemon enters it before it starts a helper, so that all of them are born in it. It is journalled before it is made,
and removed at the end: by the daemon, which must leave first, or by `sandbox.cleanup`.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from sandbox.cgroup_removal import remove_cgroups
from sandbox.errors import FailedPreconditionError
from sandbox.resources import hierarchies
from sandbox.resources.hierarchies import Hierarchy
from sandbox.rundir import RunDirectory

#: Seconds for processes that are dead already to leave it.
LEAVE_TIMEOUT = 1.0
#: Key of the journal.
JOURNAL_KEY = "cgroups"

_log = logging.getLogger(__name__)


class PodCgroup:
    """From `enter` to `leave`, both at most once."""

    def __init__(self, path: str, found: tuple[Hierarchy, ...], own: str) -> None:
        """`path` is that of the cgroup, `own` the text of this process' /proc/self/cgroup."""
        self._path = path
        self._homes = [(each, each.current(own)) for each in found]
        self._entered: list[tuple[Hierarchy, str]] = []

    @classmethod
    def on_this_host(cls, path: str) -> PodCgroup:
        """The cgroup at `path` in this host's hierarchies; raises `FailedPreconditionError` if there are none."""
        try:
            found = hierarchies.find(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
        except ValueError as error:
            raise FailedPreconditionError(f"the pod has no cgroup on the host: {error}") from error
        return cls(path, found, Path("/proc/self/cgroup").read_text())

    def enter(self, directory: RunDirectory) -> None:
        """Move this process into it; raises `FailedPreconditionError`, and is where it was then."""
        directory.record(JOURNAL_KEY, [str(each.mount_point / self._path) for each, _ in self._homes])
        for each, home in self._homes:
            self._entered.append((each, home))
            try:
                each.enter(self._path, os.getpid())
            except OSError as error:
                self.leave()
                raise FailedPreconditionError(
                    f"the pod's cgroup {each.mount_point / self._path}: {error.strerror}"
                ) from error

    def expel(self, pid: int) -> None:
        """Move another process to where this one was before; never raises."""
        for each, home in self._entered:
            try:
                (each.mount_point / home / "cgroup.procs").write_text(str(pid))
            except OSError as error:
                _log.warning("process %d stays in cgroup %s: %s", pid, each.mount_point / self._path, error.strerror)

    def leave(self) -> None:
        """Move this process back to where it was, and remove the cgroup; idempotent, never raises."""
        entered, self._entered = self._entered, []
        for each, home in entered:
            try:
                (each.mount_point / home / "cgroup.procs").write_text(str(os.getpid()))
            except OSError as error:
                _log.warning("leave cgroup %s: %s", each.mount_point / self._path, error.strerror)
        paths = [str(each.mount_point / self._path) for each, _ in entered]
        for path in remove_cgroups(paths, time.monotonic() + LEAVE_TIMEOUT):
            _log.warning("cgroup %s stays: it is in use", path)
