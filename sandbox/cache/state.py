"""What the cache's server has on disk: `/run/kata-cache/<digest of the endpoint>/`.

    lock          locked (flock) by the server for as long as it lives
    server.log    its log, if it runs in the background
    claim         the socket of hand-overs (`handing`)
    <vm>/         the run directory of a VM that waits: QEMU's sockets
    <vm>/vm.json  the process (pid and start time) and what `status` tells of it; goes with the hand-over

What a server that was killed leaves is removed by the next: its VMs die with it, and any that did not is in its file.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.cleanup import kill
from sandbox.digest import sha256_hex
from sandbox.rundir import process_entry, read_journal, write_journal

ROOT = Path("/run/kata-cache")
JOURNAL = "vm.json"
LOG = "server.log"
CLAIM = "claim"
_LOCK = "lock"
_KEEP = frozenset({_LOCK, LOG})


class StateError(Exception):
    """The directory can't be this server's; one line."""


def place_for(endpoint: Path) -> Path:
    """The directory of the server at an endpoint, however its path is spelled."""
    resolved = endpoint.parent.resolve() / endpoint.name
    return ROOT / sha256_hex(os.fsencode(resolved))[:8]


class State:
    """The directory of a server that runs, from `open` to `close`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> State:
        """Make it, lock it, and remove what a dead server left; raises `StateError` if a living one has it."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StateError("a server runs for this endpoint already") from error
        state = cls(path, lock)
        state._sweep()
        return state

    def _sweep(self) -> None:
        for entry in list(self.path.iterdir()):
            if entry.is_dir():
                if (pidfd := kill(read_journal(entry, JOURNAL))) is not None:
                    os.close(pidfd)
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name not in _KEEP:
                entry.unlink(missing_ok=True)

    def add(self, name: str) -> Path:
        """The run directory of a new VM."""
        place = self.path / name
        place.mkdir(mode=0o700)
        return place

    def close(self) -> None:
        """Remove the directory, and give up the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        try:
            self.path.parent.rmdir()
        except OSError:
            # Another server's directory is there.
            return


def record(place: Path, pid: int, about: dict[str, Any]) -> None:
    """Journal a VM's process, with what is to be told of it."""
    write_journal(place, {**process_entry(pid), "created": time.time(), **about}, JOURNAL)


def journals(path: Path) -> Iterator[dict[str, Any]]:
    """Those of all VMs of a server."""
    if path.is_dir():
        places = [entry for entry in sorted(path.iterdir()) if entry.is_dir()]
        yield from (found for place in places if (found := read_journal(place, JOURNAL)))
