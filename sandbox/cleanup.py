"""Undo a sandbox from disk alone: for the `delete` command, when its daemon is dead or has to go.

Works any number of times, in any order, by several callers at once, with or without the daemon. What the kernel cleans
by itself (the mounts in the daemon's private namespace, helpers with a parent-death signal) only has to be waited for.
Standard library only: containerd runs `delete` after every container.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.rundir import HOOKS, is_owned, read_journal, remove_run_dir, start_time

#: How long killed processes may take to vanish; containerd gives the whole `delete` 5 s.
KILL_TIMEOUT = 2.0
#: How long they may take to leave their cgroups.
CGROUP_TIMEOUT = 1.0

_DAEMON, _HELPERS = "daemon", ("qemu", "virtiofsd")


def daemon_alive(run_dir: Path) -> bool:
    """Whether the sandbox' daemon lives: it holds the lock of its run directory."""
    return is_owned(run_dir)


def clean(run_dir: Path, keep: Path | None = None) -> int | None:
    """Kill the sandbox' processes and remove its socket and run directory; return the VM's pid if it is known.

    A socket at `keep` is somebody else's by now, and stays.
    """
    deadline = time.monotonic() + KILL_TIMEOUT
    before = read_journal(run_dir)
    _kill_all([_processes(before).get(_DAEMON)], deadline)
    # Until here the daemon has written to it; one that ended in order has removed it.
    journal = read_journal(run_dir) or before
    processes = _processes(journal)
    _kill_all([processes.get(name) for name in _HELPERS], deadline)
    _undo_network(journal.get("network"))
    _remove_cgroups(journal.get("cgroups"), journal.get("cgroup_parents"))
    socket_path = journal.get("socket")
    if isinstance(socket_path, str) and Path(socket_path) != keep:
        Path(socket_path).unlink(missing_ok=True)
    run_hooks = _hooks_left(run_dir)
    remove_run_dir(run_dir)
    run_hooks()
    vm = processes.get("qemu")
    pid = vm.get("pid") if isinstance(vm, dict) else None
    return pid if isinstance(pid, int) else None


def _processes(journal: dict[str, Any]) -> dict[str, Any]:
    found = journal.get("processes")
    return found if isinstance(found, dict) else {}


def _hooks_left(run_dir: Path) -> Callable[[], None]:
    """What runs the `poststop` hooks that nobody has run yet: last of all, for they may take their time."""
    if not (run_dir / HOOKS).is_dir():
        return lambda: None
    # Loads subprocess, which only pods with hooks should pay for.
    from sandbox import poststop

    left = poststop.take(run_dir)

    def run() -> None:
        for problem in poststop.run(left):
            sys.stderr.write(f"{problem}\n")

    return run


def _remove_cgroups(paths: Any, parents: Any) -> None:
    """The pod's cgroups, whose processes are dead, and those above that were made for it, unless they are in use."""
    if not isinstance(paths, list):
        return
    from sandbox.cgroup_removal import remove_cgroups, remove_empty

    for path in remove_cgroups(filter(None, map(str, paths)), time.monotonic() + CGROUP_TIMEOUT):
        sys.stderr.write(f"cgroup {path} could not be removed: it is in use\n")
    if isinstance(parents, list):
        remove_empty(filter(None, map(str, parents)))


def _undo_network(fact: Any) -> None:
    """What the pod's network namespace has of ours, when its processes are gone; best effort, as all of this."""
    if fact is None:
        return
    # Loads ctypes, which a pod without a network should not pay for.
    from sandbox.network.undo import undo

    try:
        undo(fact)
    except OSError as error:
        sys.stderr.write(f"the pod's network namespace could not be put in order: {error}\n")


def _kill_all(entries: list[Any], deadline: float) -> None:
    fds = [fd for entry in entries if (fd := kill(entry)) is not None]
    for fd in fds:
        left = max(0.0, deadline - time.monotonic())
        select.select([fd], [], [], left)
        os.close(fd)


def kill(entry: Any) -> int | None:
    """SIGKILL the very process that was journalled; return a pidfd to wait on, None if it is gone already.

    An entry that makes no sense is no process, and this one is never meant.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("pid"), int) or entry["pid"] <= 1:
        return None
    try:
        fd = os.pidfd_open(entry["pid"])
    except (OSError, OverflowError):
        return None
    if entry["pid"] == os.getpid() or start_time(entry["pid"]) != entry.get("start_time"):
        os.close(fd)
        return None
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        os.close(fd)
        return None
    return fd
