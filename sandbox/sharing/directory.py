"""The shared directory of a sandbox: what virtiofsd or QEMU shows to the guest.

It is a shared mount on the host's side, so that root file systems and volumes mounted below it later appear in
virtiofsd's own mount namespace, attributes included. Every mount has one owner here, which also undoes it.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio

from hypervisor.threads import aside
from sandbox import mounts
from sandbox.errors import InvalidArgumentError, SandboxError
from sandbox.interface import Mount
from sandbox.sharing.share import Guest, Share
from sandbox.volumes import ShareEntry

#: Who has what is there always: no container has this id.
_NOBODY = ""

_log = logging.getLogger(__name__)


class SharedDirectory:
    """The directory at `path`; `prepare` before anything is added, `close` when the guest is gone.

    The entries `always` are there from `prepare` on.
    """

    def __init__(self, path: Path, always: Sequence[ShareEntry] = ()) -> None:
        self.path = path
        self._always = always
        self._entries: dict[str, list[Path]] = {}
        #: How many have an entry that containers share: the guest knows files by their mount, so it must be one mount
        #: for all, or a socket that one container has made would be another file for the next.
        self._shared: dict[Path, int] = {}
        #: Held while something is undone, so that whoever asks for the same again returns when it is.
        self._undoing = anyio.Lock()
        self._prepared = False

    def prepare(self) -> None:
        """Make the directory a shared mount of this mount namespace; `InvalidArgumentError` as in `add`."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        mounts.make_share_root(self.path)
        self._prepared = True
        for entry in self._always:
            (self.path / entry.name).parent.mkdir(exist_ok=True)
            try:
                self.add(_NOBODY, entry)
            except SandboxError as error:
                raise type(error)(f"sandbox_bind_mounts: {error}") from error

    def add_rootfs(self, container_id: str, rootfs: Sequence[Mount], fallback: Path) -> None:
        """Mount the container's root file system; without mounts of a snapshotter, bind `fallback` (spec.root.path)."""
        place = self._rootfs(container_id)
        place.mkdir(parents=True)
        # Noted before anything is mounted: a mount that fails must not leave its mount point.
        points = self._entries.setdefault(container_id, [])
        points.append(place)
        if rootfs:
            mounts.mount_rootfs(rootfs, place)
            points.extend([place] * (len(rootfs) - 1))
            return
        if not fallback.is_dir():
            raise InvalidArgumentError(f"root file system {fallback} is not a directory, and no mounts were given")
        mounts.bind(fallback, place)

    def add(self, container_id: str, entry: ShareEntry) -> None:
        """Bind a volume, once for all containers that have it; `InvalidArgumentError` if its source does not exist."""
        source, mode = resolved(entry.source)
        if stat.S_ISSOCK(mode):
            _log.warning(
                "mount source %s: the host's sockets can be seen in the guest, but nobody answers", entry.source
            )
        place = self.path / entry.name
        self._entries.setdefault(container_id, []).append(place)
        self._shared[place] = self._shared.get(place, 0) + 1
        if self._shared[place] > 1:
            return
        if stat.S_ISDIR(mode):
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        mounts.bind(source, place, attributes=entry.attributes, recursive=entry.recursive)

    async def remove(self, container_id: str) -> None:
        """Undo all that was added for a container, in reverse order, whoever gives up meanwhile; idempotent."""
        with anyio.CancelScope(shield=True):
            async with self._undoing:
                await self._undo(container_id)

    async def close(self) -> None:
        """Detach everything; idempotent."""
        with anyio.CancelScope(shield=True):
            async with self._undoing:
                for container_id in list(self._entries):
                    await self._undo(container_id)
                if self._prepared:
                    mounts.unmount(self.path)
                    self._prepared = False

    async def _undo(self, container_id: str) -> None:
        for place in reversed(self._entries.pop(container_id, [])):
            holders = self._shared.pop(place, 1) - 1
            if holders:
                self._shared[place] = holders
                continue
            if place == self._rootfs(container_id):
                # With its last mount an overlayfs writes back all that its disk is behind with, which may take minutes.
                await aside(partial(mounts.unmount, place))
            else:
                mounts.unmount(place)
            _remove_mount_point(place)
        _remove_mount_point(self.path / container_id)

    def _rootfs(self, container_id: str) -> Path:
        return self.path / container_id / "rootfs"


def resolved(source: str) -> tuple[str, int]:
    """What a mount's source leads to, and its mode; raises `InvalidArgumentError` if there is nothing."""
    try:
        real = os.path.realpath(source)
        return real, os.stat(real).st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidArgumentError(f"mount source {source}: {reason}") from error


def _remove_mount_point(place: Path) -> None:
    """Remove an empty directory or file; a place that is still mounted, or not empty, stays."""
    try:
        if place.is_dir():
            place.rmdir()
        else:
            place.unlink(missing_ok=True)
    except OSError:
        return


class DirectoryShare(Share):
    """The ways that mount: everything goes into one shared directory, which the VM has a device for."""

    def __init__(self, directory: SharedDirectory) -> None:
        self.directory = directory

    async def start(self, timeout: float) -> None:
        """Make the directory."""
        self.directory.prepare()

    async def add_rootfs(self, guest: Guest, container_id: str, rootfs: Sequence[Mount], fallback: Path) -> None:
        """Mount it in the shared directory."""
        self.directory.add_rootfs(container_id, rootfs, fallback)

    async def add(self, guest: Guest, container_id: str, entries: Sequence[ShareEntry]) -> None:
        """Bind them in the shared directory."""
        for entry in entries:
            self.directory.add(container_id, entry)

    async def remove(self, container_id: str) -> None:
        """Unmount what was mounted for the container."""
        await self.directory.remove(container_id)

    async def close(self, timeout: float) -> None:
        """Unmount everything."""
        await self.directory.close()
