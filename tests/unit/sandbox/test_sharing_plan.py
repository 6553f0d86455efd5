"""Contract: each way to share is what Kata's keys say, as the VM's device and as the guest's storage."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import config
from hypervisor.devices import NinepFs, SharedFs
from protos.gen import grpc as agent_pb
from sandbox.errors import FailedPreconditionError
from sandbox.sharing.copying import CopyShare
from sandbox.sharing.directory import DirectoryShare, SharedDirectory
from sandbox.sharing.plan import plan_sharing
from sandbox.sharing.share import SharingPlan
from sandbox.sharing.virtiofs import VirtioFsPlan, VirtioFsShare
from sandbox.volumes import ShareEntry
from tests.fakes.guest_files import GuestFiles
from tests.fakes.world import FakeVirtiofsd

RUN_DIR = Path("/run/kata/s1")


@pytest.fixture
def planned(tmp_path: Path):
    def plan(text: str) -> SharingPlan:
        file = tmp_path / "configuration.toml"
        file.write_text(f"[hypervisor.qemu]\n{text}\n")
        settings = config.load(file)
        return plan_sharing(settings.hypervisor, RUN_DIR, settings.runtime.sandbox_bind_mounts)

    return plan


def test_virtio_fs_is_mounted_as_by_kata(planned):
    plan = planned("virtio_fs_queue_size = 512")
    assert plan.device == SharedFs(RUN_DIR / "fs", "kataShared", 512, 0)
    assert plan.sandbox_storages == [
        agent_pb.Storage(
            driver="virtio-fs",
            source="kataShared",
            fstype="virtiofs",
            options=[],
            mount_point="/run/kata-containers/shared/containers/",
        )
    ]
    assert plan.drivers == {"virtio-fs"}


@pytest.mark.parametrize(("cache", "options"), [("auto", ["dax"]), ("always", ["dax"]), ("never", [])])
def test_a_dax_window_is_the_device_s_and_the_mount_uses_it_where_something_may_be_cached(planned, cache, options):
    plan = planned(f"virtio_fs_cache_size = 256\nvirtio_fs_cache = '{cache}'")
    assert plan.device.cache_size_mib == 256
    assert plan.sandbox_storages[0].options == options
    assert "DAX" in plan.guest_needs


def test_virtiofsd_gets_its_keys(planned):
    plan = planned(
        "virtio_fs_daemon = '/opt/virtiofsd'\nvirtio_fs_cache = 'never'\nvirtio_fs_extra_args = ['--xattr']\n"
        "enable_debug = true"
    )
    assert isinstance(plan, VirtioFsPlan)
    assert (plan.daemon.binary, plan.daemon.cache) == (Path("/opt/virtiofsd"), "never")
    assert (plan.daemon.extra_args, plan.daemon.debug) == (("--xattr",), True)
    assert (plan.daemon.shared_dir, plan.daemon.socket_path) == (RUN_DIR / "shared", RUN_DIR / "fs")
    assert isinstance(plan.make(lambda pid: None), VirtioFsShare)


def test_virtio_9p_is_mounted_as_by_kata(planned):
    plan = planned("shared_fs = 'virtio-9p'\nmsize_9p = 131072")
    assert plan.device == NinepFs(RUN_DIR / "shared", "kataShared")
    assert plan.sandbox_storages == [
        agent_pb.Storage(
            driver="9p",
            source="kataShared",
            fstype="9p",
            options=["trans=virtio,version=9p2000.L,cache=mmap", "msize=131072"],
            mount_point="/run/kata-containers/shared/containers/",
        )
    ]
    assert "9pnet_virtio" in plan.guest_needs
    assert type(plan.make(lambda pid: None)) is DirectoryShare


@pytest.mark.anyio
async def test_none_is_no_device(planned):
    plan = planned("shared_fs = 'none'")
    assert plan.device is None
    assert isinstance(plan.make(lambda pid: None), CopyShare)


@pytest.mark.parametrize("way", ["virtio-fs", "virtio-9p"])
def test_what_every_sandbox_has_is_an_entry_of_the_directory(planned, way: str):
    plan = planned(f"shared_fs = '{way}'\n[runtime]\nsandbox_bind_mounts = ['/opt/hooks', '/srv/log:rw']")
    assert plan.always == (
        ShareEntry("sandbox-mounts/hooks", "/opt/hooks", ("ro",), recursive=True),
        ShareEntry("sandbox-mounts/log", "/srv/log", (), recursive=True),
    )


def test_where_nothing_is_shared_nothing_can_be_bound(planned):
    with pytest.raises(FailedPreconditionError, match=r'sandbox_bind_mounts: with shared_fs = "none"'):
        planned("shared_fs = 'none'\n[runtime]\nsandbox_bind_mounts = ['/opt/hooks']")


@pytest.mark.anyio
async def test_a_share_that_mounts_gives_back_all_it_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mounted: list[str] = []
    monkeypatch.setattr("sandbox.mounts.mount", lambda source, target, *_: None)
    monkeypatch.setattr("sandbox.mounts.bind", lambda source, target, **_: mounted.append(os.fspath(target)))
    monkeypatch.setattr(
        "sandbox.mounts.unmount", lambda target: os.fspath(target) in mounted and mounted.remove(str(target))
    )
    (tmp_path / "rootfs").mkdir()
    daemon = FakeVirtiofsd()
    share = VirtioFsShare(SharedDirectory(tmp_path / "shared"), daemon)
    await share.start(1)
    await share.add_rootfs(GuestFiles(), "c1", [], tmp_path / "rootfs")
    await share.add(GuestFiles(), "c1", [ShareEntry("c1-etc", "/etc", (), recursive=True)])
    assert mounted == [f"{tmp_path}/shared/c1/rootfs", f"{tmp_path}/shared/c1-etc"]
    assert share.storages("c1") == []
    with anyio.fail_after(5):
        await share.close(1)
        assert await share.ended() == "virtiofsd was killed by SIGKILL"
    assert mounted == []
