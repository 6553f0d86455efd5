"""The run directory of a sandbox: what it holds, who owns it, and what has to be undone if its owner dies.

Layout of `/run/kata/<name>/`:

    lock         locked (flock) by the daemon for as long as it lives: a free lock means nobody owns the directory
    state.json   the journal: processes (pid and start time) and the socket, written before they matter
    qmp agent fs sockets of QEMU and virtiofsd
    shim-monitor.sock  the pod's management socket (`shim.management`)
    poststop/    hooks of containers that have such (`sandbox.poststop`)
    shared/      what the guest sees through virtio-fs; mounts below it exist in the daemon's mount namespace only

On the path of `start` and `delete`: standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.digest import sha256_hex

#: Parent of all run directories; Kata's tools look for sandboxes here.
ROOT = Path("/run/kata")

_LOCK = "lock"
_JOURNAL = "state.json"
#: Directory of the hooks that are to be run even if the daemon is killed.
HOOKS = "poststop"


def run_dir_for(address: str, namespace: str, sandbox_id: str) -> Path:
    """The run directory of a sandbox of one containerd and namespace.

    Readable (it starts with the id), unique over containerds and namespaces, and short enough for UNIX sockets in it.
    """
    digest = sha256_hex("\0".join((address, namespace, sandbox_id)).encode())
    return ROOT / f"{sandbox_id[:64]}-{digest[:8]}"


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (field 22 of /proc/pid/stat); None if there is no such process.

    With the pid it names one process for good: a pid alone may be taken again.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def process_entry(pid: int) -> dict[str, Any]:
    """A process as a journal has it."""
    return {"pid": pid, "start_time": start_time(pid)}


class RunDirectory:
    """A run directory that this process owns, from `create` until `close`; its lock goes with the process."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd
        self._journal: dict[str, Any] = {"version": 1, "processes": {}}

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, str]) -> RunDirectory:
        """Make and lock `path` (mode 0700), and journal `facts` with this process as the daemon.

        Raises `FileExistsError` when another living process owns it.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock_fd)
            raise FileExistsError(f"sandbox directory {path} belongs to another running shim") from error
        directory = cls(path, lock_fd)
        directory._journal.update(facts)
        directory.record_process("daemon", os.getpid())
        return directory

    def processes(self) -> dict[str, int]:
        """Pids of the journalled processes that live, by their names."""
        return living(self._journal)

    def record_process(self, name: str, pid: int) -> None:
        """Journal a helper process, so that it can be killed from disk alone."""
        self._journal["processes"][name] = process_entry(pid)
        self._write()

    def record(self, key: str, value: Any) -> None:
        """Journal a fact that whoever cleans up, or looks, should know."""
        self._journal[key] = value
        self._write()

    def _write(self) -> None:
        write_journal(self.path, self._journal)

    def close(self) -> None:
        """Remove the directory and give up its lock; idempotent."""
        if self._lock_fd >= 0:
            remove_run_dir(self.path)
            self.release()

    def release(self) -> None:
        """Give up the lock; idempotent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def remove_run_dir(path: Path) -> None:
    """Remove a run directory, unless something is mounted below it in this mount namespace: then what it shows may be a
    user's data, and it is left alone.
    """
    if not mounts_below(path):
        # Imports three compressors: neither `start` nor a pod's whole life should pay for it.
        import shutil

        shutil.rmtree(path, ignore_errors=True)


def mounts_below(path: Path) -> list[str]:
    """Mount points at or below `path` in this mount namespace, the latest first."""
    prefix = str(path)
    points = []
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            point = _unescape(line.split(" ", 5)[4])
            if point == prefix or point.startswith(prefix + "/"):
                points.append(point)
    return points[::-1]


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def write_journal(path: Path, journal: Mapping[str, Any], name: str = _JOURNAL) -> None:
    """Write the journal of a run directory, so that a reader finds this one or the one before; raises `OSError`."""
    temporary = path / (name + ".new")
    temporary.write_text(json.dumps(journal))
    temporary.replace(path / name)


def read_journal(path: Path, name: str = _JOURNAL) -> dict[str, Any]:
    """The journal of a run directory; empty if there is none or it can't be read."""
    try:
        journal = json.loads((path / name).read_bytes())
    except (OSError, ValueError):
        return {}
    return journal if isinstance(journal, dict) else {}


def living(journal: Mapping[str, Any]) -> dict[str, int]:
    """Pids of the processes in a journal, which may be malformed, that live; by their names."""
    entries = journal.get("processes")
    found = {}
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        pid = entry.get("pid") if isinstance(entry, dict) else None
        if type(pid) is not int or pid <= 1:
            continue
        began = start_time(pid)
        if began is not None and began == entry.get("start_time"):
            found[str(name)] = pid
    return found


def is_owned(path: Path) -> bool:
    """Whether a living process holds the run directory's lock."""
    try:
        lock_fd = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(lock_fd)
