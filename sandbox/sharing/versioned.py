"""A volume as Kubernetes makes it of a ConfigMap, a Secret, a projected volume or the downward API.

Its files are links through `..data`, which is itself a link to a directory of one version; kubelet writes the next
version beside it and moves a new `..data` over the old one (`AtomicWriter`). The copy in the guest changes in the same
way: whoever reads it sees one version or the other.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import anyio

from sandbox.sharing.sending import send, send_tree
from sandbox.sharing.share import Guest
from sandbox.sharing.tree import Piece, Tree

DATA = "..data"
_DATA_NEW = "..data_tmp"


def is_versioned(source: Path) -> bool:
    """Whether `source` is such a volume."""
    return os.path.islink(source / DATA)


class VersionedVolume:
    """The volume at `source`, and its copy at `target` in the guest."""

    def __init__(self, source: Path, target: str) -> None:
        self.source = source
        self.target = target
        self._sent: dict[str, os.stat_result] = {}
        self._state: tuple[object, ...] | None = None
        self._sending = anyio.Lock()

    def has_changed(self) -> bool:
        """Whether there is something that the guest does not have yet; a volume that is gone has not changed."""
        state = self._look()
        return state is not None and state != self._state

    async def send(self, guest: Guest) -> None:
        """Bring the copy up to date. Raises `SandboxError`, `AgentError`; then the next call does all of it again."""
        async with self._sending:
            if self.has_changed():
                await self._send(guest)

    async def _send(self, guest: Guest) -> None:
        state = self._look()
        # Read before the rest, sent behind it: the version it names is complete by now, and in the guest by then.
        link = self._link()
        seen: dict[str, os.stat_result] = {}

        def is_known(path: str, status: os.stat_result) -> bool:
            seen[path] = status
            return path in self._sent and _identity(self._sent[path]) == _identity(status)

        await send_tree(guest, Tree(self.source, skip=frozenset({DATA, _DATA_NEW}), is_known=is_known), self.target)
        if link is not None:
            await send(guest, link, self.target)
        await self._empty(guest, self._sent.keys() - seen.keys())
        self._sent, self._state = seen, state

    async def _empty(self, guest: Guest, gone: set[str]) -> None:
        """The protocol can't remove files; those of an old version at least give their memory back."""
        for path in sorted(gone):
            status = self._sent[path]
            if stat.S_ISREG(status.st_mode) and status.st_size:
                await send(guest, Piece(path, status.st_mode, status.st_uid, status.st_gid), self.target)

    def _link(self) -> Piece | None:
        try:
            target = os.fsencode(os.readlink(self.source / DATA))
            status = os.lstat(self.source / DATA)
        except OSError:
            return None
        return Piece(DATA, status.st_mode, status.st_uid, status.st_gid, len(target), 0, target)

    def _look(self) -> tuple[object, ...] | None:
        try:
            status = os.stat(self.source)
            return status.st_ino, status.st_mtime_ns, os.readlink(self.source / DATA)
        except OSError:
            return None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode, status.st_uid, status.st_gid
