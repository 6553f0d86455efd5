"""What a daemon takes over from the `start` that asked for it, as the child of that process would have: its namespaces
(they must be ours), cgroup, limits, file mode mask, environment, working directory and descriptors.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from shim.sockets import LISTENER_FD

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts", "user")
_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


def shares_namespaces(pid: int) -> bool:
    """Whether process `pid` is in the same namespaces as this one."""
    try:
        return namespaces(pid) == _own_namespaces()
    except OSError:
        return False


def namespaces(pid: int | str) -> list[str]:
    """The names of the namespaces of process `pid`; raises `OSError`."""
    return [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in _NAMESPACES]


@cache
def _own_namespaces() -> list[str]:
    """Those of this process, which stays in them; asking takes a millisecond of each start."""
    return namespaces("self")


def take_over(pid: int) -> None:
    """Take on the cgroups, the resource limits and the file mode mask of process `pid`. Raises `OSError`."""
    join_cgroups(Path(f"/proc/{pid}/cgroup").read_text(), Path("/proc/self/cgroup").read_text(), _CGROUPS)
    for limit in _LIMITS:
        theirs = resource.prlimit(pid, limit)
        if theirs != resource.prlimit(0, limit):
            resource.prlimit(0, limit, theirs)
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("Umask:"):
            os.umask(int(line.split()[1], 8))


def join_cgroups(theirs: str, ours: str, root: Path) -> None:
    """Move this process to the cgroups of the text `theirs` (cgroups(7), /proc/pid/cgroup) that are not in `ours`.

    Raises `OSError` when one of them can't be joined.
    """
    for line in sorted(set(theirs.splitlines()) - set(ours.splitlines())):
        number, controllers, path = line.split(":", 2)
        hierarchy = "unified" if number == "0" and not (root / "cgroup.procs").exists() else ""
        place = root / (hierarchy if number == "0" else controllers.removeprefix("name="))
        (place / path.lstrip("/") / "cgroup.procs").write_text("0")


def arrange(environment: Mapping[str, str], listener: int, log: int, bundle: int) -> None:
    """Have the environment, the working directory and the descriptors that a daemon expects, and no others."""
    os.environ.clear()
    os.environ.update(environment)
    os.fchdir(bundle)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for source, target in ((null, 0), (null, 1), (log, 2), (listener, LISTENER_FD)):
        os.dup2(source, target)
    os.closerange(LISTENER_FD + 1, os.sysconf("SC_OPEN_MAX"))
