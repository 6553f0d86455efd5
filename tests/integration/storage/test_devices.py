"""Block devices of the host: as root file systems, in containers, and those that must not be there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.containerd.types import Mount
from tests.harness.command import run
from tests.integration.storage import disks
from tests.integration.storage.pod import DiskPod
from tests.integration.system.specs import bind

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


def device(path: Path, destination: str, access: str = "rwm") -> dict[str, Any]:
    """The Linux part of a spec with one block device of the host, as CRI and ctr write it."""
    number = os.stat(path).st_rdev
    where = {"type": "b", "major": os.major(number), "minor": os.minor(number)}
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "access": access, **where}]
    return {"devices": [{"path": destination, **where}], "resources": {"devices": rules}}


async def test_a_root_file_system_on_a_device_is_plugged_in_through_a_symlink(pod: DiskPod, tmp_path: Path):
    with disks.loop_device(disks.ext4(tmp_path / "image", pod.root)) as loop:
        link = tmp_path / "by-name"
        link.symlink_to(loop)
        rootfs = [Mount(type="ext4", source=str(link), options=["rw"])]
        text = await pod.output("awk", '$2 == "/" {print $3}', "/proc/mounts", rootfs=rootfs)
        assert text == "ext4\n"
        assert not pod.open_in_vm(loop)


async def test_two_snapshots_of_one_xfs_are_mounted_side_by_side(pod: DiskPod, tmp_path: Path):
    first, second = disks.xfs(tmp_path / "first.img"), tmp_path / "second.img"
    with disks.loop_device(first) as one, disks.mounted(one, tmp_path / "place"):
        run("cp", "-a", f"{pod.root}/.", str(tmp_path / "place")).check()
    run("cp", "--sparse=always", str(first), str(second)).check()
    show = ("awk", '$2 == "/" {print $3, $4}', "/proc/mounts")
    async with pod.made("sleep", "1000", rootfs=[disks.loop_mount("xfs", first)]) as other:
        await other.start()
        text = await pod.output(*show, rootfs=[disks.loop_mount("xfs", second)])
    assert text.startswith("xfs ")
    assert "nouuid" in text


async def test_a_device_that_is_mounted_on_the_host_is_refused(pod: DiskPod, tmp_path: Path):
    with disks.loop_device(disks.ext4(tmp_path / "image")) as loop, disks.mounted(loop, tmp_path / "place"):
        with pytest.raises(GRPCError, match=r"root file system /dev/loop.* is in use on this host") as refused:
            async with pod.made("true", rootfs=[Mount(type="ext4", source=str(loop))]):
                pass
        assert refused.value.status is Status.FAILED_PRECONDITION
        assert not pod.open_in_vm(loop)


async def test_a_container_writes_its_device_and_it_is_given_back(each_pod: DiskPod, tmp_path: Path):
    image = disks.ext4(tmp_path / "image", mib=8)
    with disks.loop_device(image) as loop:
        script = "dd if=/dev/data bs=1k skip=1 count=1 2>/dev/null | od -An -tx1 -j56 -N2; echo mine > /dev/data; sync"
        text = await each_pod.output("sh", "-c", script, linux=device(loop, "/dev/data"))
        assert text.split() == ["53", "ef"]
        assert not each_pod.open_in_vm(loop)
        assert loop.read_bytes()[:5] == b"mine\n"


async def test_a_device_for_reading_can_not_be_written(pod: DiskPod, tmp_path: Path):
    with disks.loop_device(disks.ext4(tmp_path / "image", mib=8)) as loop:
        script = "head -c 4096 /dev/data | wc -c; echo x 2>/dev/null > /dev/data && echo written"
        text = await pod.output("sh", "-c", f"{script}; true", linux=device(loop, "/dev/data", "rm"))
    assert text == "4096\n"


async def test_two_containers_have_one_device_and_the_last_one_gives_it_back(pod: DiskPod, tmp_path: Path):
    with disks.loop_device(disks.ext4(tmp_path / "image", mib=8)) as loop:
        async with pod.made("sleep", "1000", linux=device(loop, "/dev/data")) as first:
            await first.start()
            await pod.output("sh", "-c", "echo from the second > /dev/other; sync", linux=device(loop, "/dev/other"))
            assert pod.open_in_vm(loop)
            assert (await first.exec("head", "-c", "16", "/dev/data")) == "from the second\n"
        assert not pod.open_in_vm(loop)


async def test_a_bind_of_a_device_shows_the_hosts_device(pod: DiskPod, tmp_path: Path):
    image = disks.ext4(tmp_path / "image", mib=8)
    with disks.loop_device(image) as loop:
        text = await pod.output(
            "sh", "-c", "test -b /dev/xvda && dd if=/dev/xvda bs=1k skip=1 count=1 2>/dev/null | od -An -tx1 -j56 -N2",
            mounts=[bind(loop, "/dev/xvda", "ro")],
        )  # fmt: skip
    assert text.split() == ["53", "ef"]


async def test_a_privileged_container_has_no_block_device_of_the_host(pod: DiskPod, tmp_path: Path):
    with disks.loop_device(disks.ext4(tmp_path / "image", mib=8)) as loop:
        everything = device(loop, str(loop))
        everything["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
        text = await pod.output("sh", "-c", f"test -e {loop} && echo leaked; echo checked", linux=everything)
        assert text == "checked\n"
        assert not pod.open_in_vm(loop)


async def test_a_device_that_the_host_does_not_have_fails_the_create(pod: DiskPod):
    where = {"type": "b", "major": 240, "minor": 77}
    with pytest.raises(GRPCError, match="block device 240:77: this host has none of that number"):
        async with pod.made("true", linux={"devices": [{"path": "/dev/data", **where}]}):
            pass


async def test_when_all_slots_are_taken_the_next_create_says_so_and_the_others_live(disk_pods: Any, tmp_path: Path):
    pod: DiskPod = disk_pods.pod("virtio-blk")
    images = [disks.ext4(tmp_path / f"{number}.img", mib=1) for number in range(32)]
    layers = [disks.loop_mount("erofs", image) for image in images]
    rootfs = [*layers, Mount(type="format/overlay", options=["lowerdir={{ overlay 31 0 }}"])]
    async with pod.made("sleep", "1000") as other:
        await other.start()
        with pytest.raises(GRPCError, match="no free PCI slot for disk"):
            async with pod.made("true", rootfs=rootfs):
                pass
        assert (await other.exec("echo", "alive")) == "alive\n"
    assert not any(pod.open_in_vm(image) for image in images)
