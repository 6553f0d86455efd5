"""virtio-fs: a daemon of the host (virtiofsd) serves the shared directory, and the guest caches what it is told it may.

The guest reads the host's page cache in place of a copy, changes are seen on both sides, and there is no limit to what
is shared: a ConfigMap's update is there as soon as the guest's cache entry is old (1 s with `auto`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import anyio

from hypervisor.devices import SharedFs
from hypervisor.virtiofsd import Virtiofsd, VirtiofsdSpec
from hypervisor.vm import OnSpawn
from protos.gen import grpc as agent_pb
from sandbox import guest_paths
from sandbox.sharing.directory import DirectoryShare, SharedDirectory
from sandbox.sharing.share import Share, SharingPlan
from sandbox.volumes import ShareEntry

DRIVER = "virtio-fs"


@dataclass(frozen=True)
class VirtioFsPlan(SharingPlan):
    """virtiofsd and its device. `dax_mib` is the window through which the guest maps the host's page cache; 0: none."""

    daemon: VirtiofsdSpec
    queue_size: int = 1024
    dax_mib: int = 0
    #: What is shared before any container.
    always: tuple[ShareEntry, ...] = ()

    @property
    def device(self) -> SharedFs:
        """vhost-user-fs on the daemon's socket."""
        return SharedFs(self.daemon.socket_path, guest_paths.SHARED_TAG, self.queue_size, self.dax_mib)

    @property
    def sandbox_storages(self) -> list[agent_pb.Storage]:
        """The mount of the shared directory, as Kata asks for it: with `dax` if there is a window and a cache."""
        uses_dax = self.dax_mib > 0 and self.daemon.cache != "never"
        return [
            agent_pb.Storage(
                driver=DRIVER,
                source=guest_paths.SHARED_TAG,
                fstype="virtiofs",
                options=["dax"] if uses_dax else [],
                mount_point=guest_paths.SHARED + "/",
            )
        ]

    @property
    def guest_needs(self) -> str:
        """A kernel with virtiofs, and DAX if that is asked for."""
        return 'shared_fs = "virtio-fs" needs a guest kernel with virtiofs' + (" and its DAX" if self.dax_mib else "")

    def make(self, on_spawn: OnSpawn) -> Share:
        """The share with its daemon, not yet started."""
        return VirtioFsShare(SharedDirectory(self.daemon.shared_dir, self.always), Virtiofsd(self.daemon, on_spawn))


class Daemon(Protocol):
    """The part of `Virtiofsd` that is used here."""

    @property
    def pid(self) -> int:
        """0 before there is one."""

    @property
    def exit_reason(self) -> str | None:
        """None while it runs, and when it only followed QEMU."""

    async def start(self, timeout: float) -> None:
        """Launch it."""

    async def wait(self) -> str:
        """Why it ended."""

    def kill(self) -> None:
        """SIGKILL."""


class VirtioFsShare(DirectoryShare):
    """A shared directory and the daemon that serves it."""

    def __init__(self, directory: SharedDirectory, daemon: Daemon) -> None:
        super().__init__(directory)
        self._daemon = daemon

    async def start(self, timeout: float) -> None:
        """Make the directory, then have the daemon listen."""
        await super().start(timeout)
        await self._daemon.start(timeout)

    async def ended(self) -> str:
        """The daemon's end."""
        return await self._daemon.wait()

    @property
    def exit_reason(self) -> str | None:
        """The daemon's."""
        return self._daemon.exit_reason

    def kill(self) -> None:
        """The daemon."""
        self._daemon.kill()

    async def close(self, timeout: float) -> None:
        """The daemon first, then the mounts."""
        self._daemon.kill()
        if self._daemon.pid:
            with anyio.move_on_after(timeout):
                await self._daemon.wait()
        await super().close(timeout)
