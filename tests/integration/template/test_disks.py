"""A clone without any shared file system: its memory is a view of the template's, its root file system a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.command import run
from tests.integration.storage import disks
from tests.integration.storage.pod import DiskPod
from tests.integration.template.clones import Clones, qemu_of

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

POD = "tpl-disk"


async def test_a_clone_takes_a_container_whose_root_is_an_image(clones: Clones, tmp_path: Path) -> None:
    for name in ("alone", "disks"):
        (tmp_path / name).mkdir()
    alone = clones.configured(tmp_path / "alone", 'shared_fs = "none"')
    own = alone.configured(tmp_path / "disks", "disable_block_device_use = false")
    own.ensure_template()
    pod = DiskPod(clones.bed, POD, own.ctr, tmp_path)
    pod.boot()
    try:
        image = disks.ext4(tmp_path / "root.img", pod.root)
        script = "awk '$2 == \"/\" {print $3}' /proc/mounts; echo written by a clone > /root/made; sync"
        written = await pod.output("sh", "-c", script, rootfs=[disks.loop_mount("ext4", image, "rw")])
        _, arguments = qemu_of(POD)
    finally:
        pod.remove()

    assert own.start_of(POD).kind == "template"
    assert any("share=off" in word and "mem-path=/proc/self/fd/" in word for word in arguments)
    assert written.split() == ["ext4"]
    assert run("debugfs", "-R", "cat /root/made", str(image)).check().text == "written by a clone"
