"""A pod under a configuration with block devices on, whose containers' root file systems and volumes a test chooses."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.command import run
from tests.harness.fixtures import BedKeeper, bed, bed_keeper, cri, ctr, nothing_left
from tests.integration.storage.pod import DiskPod, configured

__all__ = ["bed", "bed_keeper", "cri", "ctr", "nothing_left"]

#: By pod: the way disks are attached.
BUSES = ("virtio-blk", "virtio-scsi")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One loop for all, so that a fixture may live as long as a module."""
    return "asyncio"


class DiskPodKeeper:
    """Boots a pod for each bus when one is wanted, and another if a test has spoiled the bed that the last was in."""

    def __init__(self, beds: BedKeeper, directory: Path) -> None:
        self._beds = beds
        self._directory = directory
        self._pods: dict[str, DiskPod] = {}

    def pod(self, bus: str) -> DiskPod:
        """The pod with that bus, its own container running."""
        bed = self._beds.bed()
        pod = self._pods.get(bus)
        if pod is None or pod.bed is not bed:
            settings = f"[hypervisor.qemu]\ndisable_block_device_use = false\nblock_device_driver = '{bus}'\n"
            settings += f"[runtime]\nkubelet_root_dir = '{self._directory}/kubelet'\n"
            pod = DiskPod(
                bed, f"disks-{uuid.uuid4().hex[:8]}", configured(bed, self._directory / bus, settings), self._directory
            )
            pod.boot()
            self._pods[bus] = pod
        return pod

    def close(self) -> None:
        """Remove them, as far as their bed is still there."""
        for pod in self._pods.values():
            if pod.bed is self._beds.bed():
                pod.remove()


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where volumes may be."""
    directory = tmp_path_factory.mktemp("disks")
    # As on a systemd host, where all mounts are shared: what is mounted later is seen in the daemon's namespace.
    run("mount", "--bind", str(directory), str(directory)).check()
    run("mount", "--make-rshared", str(directory)).check()
    try:
        yield directory
    finally:
        run("umount", "--lazy", str(directory)).check()


@pytest.fixture(scope="session")
def disk_pods(bed_keeper: BedKeeper, shared_directory: Path) -> Iterator[DiskPodKeeper]:
    """Owner of the pods."""
    keeper = DiskPodKeeper(bed_keeper, shared_directory)
    try:
        yield keeper
    finally:
        keeper.close()


@pytest.fixture
def pod(disk_pods: DiskPodKeeper, request: pytest.FixtureRequest) -> DiskPod:
    """A pod with virtio-scsi, the default; what a test has made in it must be gone at its end."""
    pod = disk_pods.pod("virtio-scsi")
    request.getfixturevalue("nothing_left")
    return pod


@pytest.fixture(params=BUSES)
def each_pod(disk_pods: DiskPodKeeper, request: pytest.FixtureRequest) -> DiskPod:
    """A pod with each bus."""
    pod = disk_pods.pod(request.param)
    request.getfixturevalue("nothing_left")
    return pod
