"""The cgroup in which a pod's daemon, QEMU and virtiofsd are counted, and held to the limits above it.

The daemon enters it before it starts a helper, so that all of them are born in it. QEMU's vCPU threads may have one of
their own (`sandbox_cgroup_only = false`: they are in the pod's cgroup, and all else is overhead), to which they move
when they are there: a thread at a time, which only version 1 can do. Both are journalled before they are made, and
removed at the end: by the daemon, which must leave first, or by `sandbox.cleanup`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable

from sandbox.cgroup_removal import remove_cgroups, remove_empty
from sandbox.errors import FailedPreconditionError
from sandbox.resources.cgroup_path import OWN_PARENTS
from sandbox.resources.hierarchies import Hierarchy, HostCgroups
from sandbox.rundir import RunDirectory

#: Seconds for processes that are dead already to leave it.
LEAVE_TIMEOUT = 1.0
#: Key of the journal.
JOURNAL_KEY = "cgroups"
PARENTS_KEY = "cgroup_parents"

_log = logging.getLogger(__name__)


class PodCgroup:
    """From `enter` to `leave`, both at most once."""

    def __init__(self, path: str, host: HostCgroups, vcpus: str = "") -> None:
        """`path` is that of the cgroup, `vcpus` that of the one for vCPU threads, if they have one of their own."""
        self._path = path
        self._vcpus = vcpus
        self._homes = [(each, each.current(host.own)) for each in host.hierarchies]
        self._entered: list[tuple[Hierarchy, str]] = []
        self._parents: list[str] = []

    @classmethod
    def split(cls, pod: str, overhead: str, host: HostCgroups) -> PodCgroup:
        """The vCPUs at `pod` and all else at `overhead`; everything at `pod` where threads can't be told apart."""
        is_split = not any(each.is_unified for each in host.hierarchies)
        return cls(overhead, host, pod) if is_split else cls(pod, host)

    def enter(self, directory: RunDirectory) -> None:
        """Move this process into it; raises `FailedPreconditionError`, and is where it was then."""
        self._parents = self._own_parents()
        directory.record(PARENTS_KEY, self._parents)
        directory.record(JOURNAL_KEY, self._directories(each for each, _ in self._homes))
        for each, home in self._homes:
            self._entered.append((each, home))
            path = self._vcpus
            try:
                if path:
                    each.make(path)
                path = self._path
                each.enter(path, os.getpid())
            except OSError as error:
                self.leave()
                raise FailedPreconditionError(
                    f"the pod's cgroup {each.mount_point / path}: {error.strerror}"
                ) from error

    def _own_parents(self) -> list[str]:
        """Cgroups above that only pods of ours need: those of our names, and those that are made for this one."""
        found = {
            directory for each, _ in self._homes for path in self._paths for directory in each.missing_parents(path)
        }
        for each, _ in self._homes:
            found |= {each.mount_point / path.partition("/")[0] for path in self._paths if path.startswith(OWN_PARENTS)}
        return sorted(map(str, found))

    @property
    def _paths(self) -> list[str]:
        return [path for path in (self._path, self._vcpus) if path]

    def _directories(self, found: Iterable[Hierarchy]) -> list[str]:
        return [str(each.mount_point / path) for each in found for path in self._paths]

    @property
    def has_vcpus_apart(self) -> bool:
        """Whether vCPU threads have a cgroup of their own."""
        return bool(self._vcpus)

    def place_vcpus(self, qemu: int, threads: Iterable[int]) -> None:
        """Move vCPU threads of the process `qemu` into theirs; never raises: one that is gone needs no place."""
        own = [thread for thread in threads if os.path.exists(f"/proc/{qemu}/task/{thread}")]
        for each, _ in self._entered:
            for thread in own:
                try:
                    each.enter_thread(self._vcpus, thread)
                except ProcessLookupError:
                    _log.debug("vCPU thread %d is gone", thread)
                except OSError as error:
                    place = each.mount_point / self._vcpus
                    _log.warning("vCPU thread %d is not in cgroup %s: %s", thread, place, error.strerror)

    def adopt(self, pid: int) -> None:
        """Move in a helper that was born elsewhere; never raises."""
        for each, _ in self._entered:
            try:
                each.enter(self._path, pid)
            except OSError as error:
                _log.warning("process %d is not in cgroup %s: %s", pid, each.mount_point / self._path, error.strerror)

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
        paths = self._directories(each for each, _ in entered)
        for path in remove_cgroups(paths, time.monotonic() + LEAVE_TIMEOUT):
            _log.warning("cgroup %s stays: it is in use", path)
        remove_empty(self._parents)
