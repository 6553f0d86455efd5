"""The cgroup hierarchies of this host: the unified one (v2) alone, or one for each controller (v1).

On a host with both ("hybrid") v1 has the controllers, so v1 it is. See cgroups(7).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ATTEMPTS = 3
_CPUSET = "cpuset"
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy; `controllers` is empty for the unified one."""

    mount_point: Path
    controllers: frozenset[str] = frozenset()

    def missing_parents(self, path: str) -> list[Path]:
        """What is above the cgroup at `path` and not there."""
        above = [self.mount_point / parent for parent in Path(path).parents if parent != Path()]
        return [directory for directory in above if not directory.exists()]

    def make(self, path: str) -> Path:
        """Make the cgroup at `path`, with its parents. Raises `OSError`."""
        for _ in range(_ATTEMPTS):
            try:
                return self._make_all(path)
            except FileNotFoundError:
                # Its parent was there, and has gone with the last pod in it.
                continue
        return self._make_all(path)

    def _make_all(self, path: str) -> Path:
        directory = self.mount_point
        for part in path.split("/"):
            directory /= part
            self._make(directory)
        return directory

    def enter(self, path: str, pid: int) -> None:
        """Make the cgroup at `path`, with its parents, and move a process into it. Raises `OSError`."""
        (self.make(path) / "cgroup.procs").write_text(str(pid))

    def enter_thread(self, path: str, thread: int) -> None:
        """Move one thread of a process into the cgroup at `path`, which version 1 alone can do. Raises `OSError`."""
        (self.mount_point / path / "tasks").write_text(str(thread))

    @property
    def is_unified(self) -> bool:
        """Whether it is that of version 2."""
        return not self.controllers

    def _make(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        if _CPUSET not in self.controllers:
            return
        # A new cpuset of version 1 is empty, and takes no process before it has CPUs and memory nodes.
        for name in _CPUSET_FILES:
            if not (directory / name).read_text().strip():
                (directory / name).write_text((directory.parent / name).read_text())

    def current(self, own: str) -> str:
        """The path of a process in this hierarchy, by the text of its /proc/<pid>/cgroup; the root if it has none."""
        for line in own.splitlines():
            _, controllers, path = line.split(":", 2)
            if frozenset(filter(None, controllers.split(","))) == self.controllers:
                return path.strip("/")
        return ""


@dataclass(frozen=True)
class HostCgroups:
    """This host's hierarchies, and where this process is: the text of its /proc/self/cgroup."""

    hierarchies: tuple[Hierarchy, ...]
    own: str


def of_this_host() -> HostCgroups:
    """Look; raises `ValueError` if no hierarchy is mounted."""
    mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    return HostCgroups(find(mounts), Path("/proc/self/cgroup").read_text())


def find(mounts: str) -> tuple[Hierarchy, ...]:
    """The hierarchies that count, by the text of /proc/self/mountinfo; raises `ValueError` if none is mounted."""
    unified: list[Hierarchy] = []
    split: dict[frozenset[str], Hierarchy] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point, kind = Path(before.split()[4]), after.split()[0]
        if kind == "cgroup2":
            unified.append(Hierarchy(point))
        elif kind == "cgroup":
            options = after.split()[2].split(",")
            controllers = frozenset(options) - {"rw", "ro", "xattr", "clone_children"}
            controllers = frozenset(item for item in controllers if not item.startswith("release_agent="))
            split.setdefault(controllers, Hierarchy(point, controllers))
    if any(_is_controller(item) for item in split):
        return tuple(split.values())
    if not unified:
        raise ValueError("no cgroup hierarchy is mounted")
    return (unified[0],)


def _is_controller(names: frozenset[str]) -> bool:
    return any(not name.startswith("name=") for name in names)
