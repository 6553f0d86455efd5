"""Root file systems that are disks of the guest: data both ways, and nothing held afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.containerd.types import Mount
from tests.harness.command import run
from tests.integration.storage import disks
from tests.integration.storage.pod import DiskPod

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

ROOT_TYPE = "awk '$2 == \"/\" {print $1, $3}' /proc/mounts"


async def test_an_ext4_image_is_the_guests_disk_and_what_it_writes_is_in_the_image(each_pod: DiskPod, tmp_path: Path):
    image = disks.ext4(tmp_path / "root.img", each_pod.root)
    script = f"{ROOT_TYPE}; echo written by the guest > /root/made; sync"
    text = await each_pod.output("sh", "-c", script, rootfs=[disks.loop_mount("ext4", image, "rw")])
    assert text.split()[1] == "ext4"
    assert text.startswith("/dev/")
    assert not each_pod.open_in_vm(image)
    run("e2fsck", "-fn", str(image)).check()
    assert run("debugfs", "-R", "cat /root/made", str(image)).check().text == "written by the guest"


async def test_a_symlink_to_an_image_is_followed(pod: DiskPod, tmp_path: Path):
    image = disks.ext4(tmp_path / "root.img", pod.root)
    link = tmp_path / "link"
    link.symlink_to(image)
    async with pod.made("true", rootfs=[disks.loop_mount("ext4", link)]):
        assert pod.open_in_vm(image)
    assert not pod.open_in_vm(image)


async def test_erofs_layers_are_put_together_in_the_guest(each_pod: DiskPod, tmp_path: Path):
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc/layer").write_text("upper of two\n")
    layers = [disks.erofs(tmp_path / "base.erofs", each_pod.root), disks.erofs(tmp_path / "top.erofs", top)]
    upper = disks.ext4(tmp_path / "rwlayer.img")
    rootfs = [
        disks.loop_mount("ext4", upper, "rw"),
        *(disks.loop_mount("erofs", layer, "ro") for layer in layers),
        Mount(
            type="format/mkdir/overlay",
            source="overlay",
            options=[
                "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
                "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
                "workdir={{ mount 0 }}/work",
                "upperdir={{ mount 0 }}/upper",
                "lowerdir={{ overlay 2 1 }}",
            ],
        ),
    ]
    text = await each_pod.output("sh", "-c", f"{ROOT_TYPE}; cat /etc/layer; echo kept > /root/made", rootfs=rootfs)
    assert text.splitlines() == ["overlay overlay", "upper of two"]
    assert run("debugfs", "-R", "cat /upper/root/made", str(upper)).check().text == "kept"
    for path in (*layers, upper):
        assert not each_pod.open_in_vm(path)


async def test_an_image_or_device_that_has_vanished_fails_the_create_and_nothing_stays(pod: DiskPod, tmp_path: Path):
    link = tmp_path / "by-id"
    link.symlink_to("/dev/no-such-disk")
    vanished = [disks.loop_mount("ext4", tmp_path / "missing.img"), Mount(type="xfs", source=str(link))]
    for rootfs in vanished:
        with pytest.raises(GRPCError, match=f"root file system {rootfs.source}: No such file or directory") as refused:
            async with pod.made("true", rootfs=[rootfs]):
                pass
        assert refused.value.status is Status.INVALID_ARGUMENT
