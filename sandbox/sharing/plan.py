"""Which way to share a configuration asks for, with all that belongs to it."""

from __future__ import annotations

from pathlib import Path

from config import HypervisorConfig
from hypervisor.virtiofsd import VirtiofsdSpec
from sandbox.sharing.copying import CopyPlan
from sandbox.sharing.ninep import NinepPlan
from sandbox.sharing.share import SharingPlan
from sandbox.sharing.virtiofs import VirtioFsPlan


def plan_sharing(hypervisor: HypervisorConfig, run_dir: Path) -> SharingPlan:
    """The plan for `shared_fs`; the shared directory and the daemon's socket are in the pod's run directory."""
    shared_dir = run_dir / "shared"
    if hypervisor.shared_fs == "virtio-9p":
        return NinepPlan(shared_dir, hypervisor.msize_9p)
    if hypervisor.shared_fs == "none":
        return CopyPlan(shared_dir)
    daemon = VirtiofsdSpec(
        binary=hypervisor.virtio_fs_daemon,
        shared_dir=shared_dir,
        socket_path=run_dir / "fs",
        cache=hypervisor.virtio_fs_cache,
        debug=hypervisor.enable_debug,
        extra_args=hypervisor.virtio_fs_extra_args,
    )
    return VirtioFsPlan(daemon, hypervisor.virtio_fs_queue_size, hypervisor.virtio_fs_cache_size)
