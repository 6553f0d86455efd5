"""virtio-9p: QEMU itself serves the shared directory, for hosts without a virtiofsd. Slower, and little is cached.

QEMU runs in the daemon's mount namespace, so what is mounted below the directory later is seen in the guest at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypervisor.devices import NinepFs
from hypervisor.vm import OnSpawn
from protos.gen import grpc as agent_pb
from sandbox import guest_paths
from sandbox.sharing.directory import DirectoryShare, SharedDirectory
from sandbox.sharing.share import Share, SharingPlan
from sandbox.volumes import ShareEntry

DRIVER = "9p"
#: Kata's: writable shared mappings need cache=mmap (v9fs(5)).
_OPTIONS = "trans=virtio,version=9p2000.L,cache=mmap"


@dataclass(frozen=True)
class NinepPlan(SharingPlan):
    """The directory, and the largest 9p message in bytes."""

    shared_dir: Path
    msize: int
    #: What is shared before any container.
    always: tuple[ShareEntry, ...] = ()

    @property
    def device(self) -> NinepFs:
        """virtio-9p on the directory."""
        return NinepFs(self.shared_dir, guest_paths.SHARED_TAG)

    @property
    def sandbox_storages(self) -> list[agent_pb.Storage]:
        """The mount of the shared directory, as Kata asked for it."""
        return [
            agent_pb.Storage(
                driver=DRIVER,
                source=guest_paths.SHARED_TAG,
                fstype="9p",
                options=[_OPTIONS, f"msize={self.msize}"],
                mount_point=guest_paths.SHARED + "/",
            )
        ]

    @property
    def guest_needs(self) -> str:
        """Modules that trimmed kernels leave out."""
        return 'shared_fs = "virtio-9p" needs a guest kernel with the modules 9p, 9pnet and 9pnet_virtio'

    def make(self, on_spawn: OnSpawn) -> Share:
        """The share; it has no process of its own."""
        return DirectoryShare(SharedDirectory(self.shared_dir, self.always))
