"""Which way to share a configuration asks for, with all that belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from config import HypervisorConfig
from config.bind_mounts import BindMount
from hypervisor.virtiofsd import VirtiofsdSpec
from sandbox import guest_paths
from sandbox.errors import FailedPreconditionError
from sandbox.sharing.copying import CopyPlan
from sandbox.sharing.ninep import NinepPlan
from sandbox.sharing.share import SharingPlan
from sandbox.sharing.virtiofs import VirtioFsPlan
from sandbox.volumes import ShareEntry


def plan_sharing(hypervisor: HypervisorConfig, run_dir: Path, bind_mounts: Sequence[BindMount] = ()) -> SharingPlan:
    """The plan for `shared_fs`; the shared directory and the daemon's socket are in the pod's run directory.

    `bind_mounts` are there before any container; raises `FailedPreconditionError` for the way that can't have them.
    """
    shared_dir = run_dir / "shared"
    always = tuple(_entry(mount) for mount in bind_mounts)
    if hypervisor.shared_fs == "virtio-9p":
        return NinepPlan(shared_dir, hypervisor.msize_9p, always)
    if hypervisor.shared_fs == "none":
        if always:
            raise FailedPreconditionError(
                'sandbox_bind_mounts: with shared_fs = "none" there is nothing to bind them into'
            )
        return CopyPlan(shared_dir)
    daemon = VirtiofsdSpec(
        binary=hypervisor.virtio_fs_daemon,
        shared_dir=shared_dir,
        socket_path=run_dir / "fs",
        cache=hypervisor.virtio_fs_cache,
        debug=hypervisor.enable_debug,
        extra_args=hypervisor.virtio_fs_extra_args,
    )
    return VirtioFsPlan(daemon, hypervisor.virtio_fs_queue_size, hypervisor.virtio_fs_cache_size, always)


def _entry(mount: BindMount) -> ShareEntry:
    attributes = ("ro",) if mount.read_only else ()
    return ShareEntry(f"{guest_paths.SANDBOX_MOUNTS}/{mount.name}", mount.source, attributes, recursive=True)
