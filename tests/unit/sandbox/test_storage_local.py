"""emptyDirs that are the guest's own directories: in whose root file system they are."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from hypervisor.hotplug.disks import Disks, DiskSettings
from sandbox.oci import Root, Spec, SpecMount
from sandbox.sharing.share import Share
from sandbox.storage.container import GuestFiles, PodStorage, StorageRules
from sandbox.storage.disks import PodDisks
from tests.fakes.vm import FakeVm

pytestmark = pytest.mark.anyio


class _Share:
    """Shares everything, and nothing comes of it."""

    shares_entries = True

    async def add_rootfs(self, *_: Any) -> None:
        """Nothing to do."""

    add = remove = add_rootfs

    def storages(self, _: str) -> list[Any]:
        """None."""
        return []


@pytest.fixture
def pod(tmp_path: Path) -> PodStorage:
    disks = PodDisks(Disks(FakeVm().hotplug, DiskSettings(bus="virtio-blk", aio="threads")))
    return PodStorage("pod", StorageRules(local_empty_dirs=True, kubelet_root=tmp_path), cast("Share", _Share()), disks)


async def _prepared(pod: PodStorage, container_id: str, root: Path) -> GuestFiles:
    volume = root / "pods" / "u1" / "volumes" / "kubernetes.io~empty-dir" / "cache"
    volume.mkdir(parents=True, exist_ok=True)
    spec = Spec(root=Root("rootfs"), mounts=[SpecMount("/cache", "bind", str(volume), ["rbind"])])
    async with AsyncExitStack() as held:
        return await pod.prepare(cast("Any", None), container_id, spec, (), root, held)
    raise AssertionError


async def test_they_are_in_the_root_of_the_pod_s_own_container(pod: PodStorage, tmp_path: Path) -> None:
    own = await _prepared(pod, "pod", tmp_path)

    for container in ("c1", "c2"):
        files = await _prepared(pod, container, tmp_path)
        assert [storage.mount_point for storage in files.storages] == [f"{own.root}/local/cache"]


async def test_where_it_has_none_they_stay_on_the_host_for_containers_come_and_go(
    pod: PodStorage, tmp_path: Path
) -> None:
    assert (await _prepared(pod, "c1", tmp_path)).storages == []
