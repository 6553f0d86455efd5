"""Volumes that are not simply shared: disks that a CSI driver leaves to the runtime, and emptyDirs in the guest."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sandbox.storage.direct import ROOT
from tests.harness.command import run
from tests.harness.waiting import eventually_async
from tests.integration.storage import disks
from tests.integration.storage.pod import DiskPod
from tests.integration.system.specs import bind

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

PAGE_MIB = 2


@contextmanager
def direct_volume(source: Path, **info: Any) -> Iterator[Path]:
    """`mountInfo.json` for the volume at `source`, as a CSI driver writes it; yields its directory."""
    place = ROOT / base64.urlsafe_b64encode(os.fsencode(source)).decode()
    place.mkdir(parents=True)
    (place / "mountInfo.json").write_text(json.dumps({"volume-type": "block", **info}))
    try:
        yield place
    finally:
        (place / "mountInfo.json").unlink()
        place.rmdir()
        for parent in (ROOT, ROOT.parent, ROOT.parent.parent):
            if not any(parent.iterdir()):
                parent.rmdir()


async def test_a_direct_volume_is_mounted_in_the_guest_for_its_group(each_pod: DiskPod, tmp_path: Path):
    image = disks.ext4(tmp_path / "volume.img")
    volume = tmp_path / "mount"
    volume.mkdir()
    info = {"device": str(image), "fstype": "ext4", "metadata": {"fsGroup": "2000"}, "options": ["noatime"]}
    script = (
        "awk '$2 == \"/data\" {print $3, $4}' /proc/mounts; stat -c %g:%a /data; echo persistent > /data/file; sync"
    )
    with direct_volume(volume, **info) as place:
        async with each_pod.made("sh", "-c", script, mounts=[bind(volume, "/data")]) as container:
            await container.start()
            assert await container.wait() == 0, container.text()
            assert each_pod.id in [path.name for path in place.iterdir()]
            mount, owner = container.text().splitlines()
        assert mount.startswith("ext4 ")
        assert "noatime" in mount
        assert owner == "2000:2775"
        assert not each_pod.open_in_vm(image)
    assert run("debugfs", "-R", "cat /file", str(image)).check().text == "persistent"


@pytest.mark.parametrize(
    ("info", "status", "words"),
    [
        ({"fstype": "ext4"}, Status.INVALID_ARGUMENT, "direct volume .*mountInfo.json: .*device"),
        ({"device": "/dev/null", "fstype": "ext4"}, Status.INVALID_ARGUMENT, "neither a block device nor an image"),
        ({"device": "/nowhere", "fstype": "ext4"}, Status.INVALID_ARGUMENT, "device /nowhere: No such file"),
        ({"device": "/x", "fstype": "proc"}, Status.INVALID_ARGUMENT, "file system 'proc' is not known"),
        ({"device": "/x", "fstype": "ext4", "volume-type": "spdkvol"}, Status.UNIMPLEMENTED, "'spdkvol' is not"),
    ],
)  # fmt: skip
async def test_a_direct_volume_that_can_not_be_fails_the_create(
    pod: DiskPod, tmp_path: Path, info: dict[str, Any], status: Status, words: str
):
    with direct_volume(tmp_path, **info), pytest.raises(GRPCError, match=words) as refused:
        async with pod.made("true", mounts=[bind(tmp_path, "/data")]):
            pass
    assert refused.value.status is status


async def test_a_direct_volume_without_the_file_system_it_should_have_fails_and_is_released(
    pod: DiskPod, tmp_path: Path
):
    image = disks.ext4(tmp_path / "volume.img")
    with direct_volume(tmp_path, device=str(image), fstype="erofs") as place:
        with pytest.raises(GRPCError, match="holds no valid erofs file system"):
            async with pod.made("true", mounts=[bind(tmp_path, "/data")]):
                pass
        assert [path.name for path in place.iterdir()] == ["mountInfo.json"]
    assert not pod.open_in_vm(image)


async def test_an_empty_dir_in_memory_is_the_guests_own_and_outlives_its_container(pod: DiskPod):
    volume = pod.empty_dir("memory")
    with disks.mounted("tmpfs", volume, "-t", "tmpfs", "-o", "size=1m"):
        volume.chmod(0o777)
        os.chown(volume, 0, 3000)
        shared = {"mounts": [bind(volume, "/cache")]}
        script = (
            "awk '$2 == \"/cache\" {print $3}' /proc/mounts; stat -c %g /cache; echo left > /cache/file;"
            "dd if=/dev/zero of=/cache/big bs=64k count=64 2>&1 | grep -o 'No space left on device'; rm /cache/big"
        )
        text = await pod.output("sh", "-c", script, **shared)
        assert text.splitlines() == ["tmpfs", "3000", "No space left on device"]
        assert list(volume.iterdir()) == []
        assert await pod.output("cat", "/cache/file", **shared) == "left\n"


async def test_a_part_of_an_empty_dir_in_memory_is_seen_by_those_who_have_all_of_it(pod: DiskPod):
    volume = pod.empty_dir("parts")
    subpath = pod.directory / "kubelet/pods/uid/volume-subpaths/parts/main/0"
    subpath.mkdir(parents=True)
    with disks.mounted("tmpfs", volume, "-t", "tmpfs", "-o", "size=1m"):
        (volume / "logs").mkdir()
        with disks.mounted(volume / "logs", subpath, "--bind"):
            await pod.output("sh", "-c", "echo part > /logs/file", mounts=[bind(subpath, "/logs")])
            text = await pod.output("cat", "/all/logs/file", mounts=[bind(volume, "/all")])
    assert text == "part\n"


async def test_huge_pages_are_the_guests_own(pod: DiskPod):
    volume = pod.empty_dir("huge")
    limits = {"hugepageLimits": [{"pageSize": f"{PAGE_MIB}MB", "limit": 2 * PAGE_MIB << 20}]}
    with disks.mounted("nodev", volume, "-t", "hugetlbfs", "-o", f"pagesize={PAGE_MIB}M"):
        text = await pod.output(
            "awk",
            '$2 == "/huge" {print $3, $4}',
            "/proc/mounts",
            mounts=[bind(volume, "/huge")],
            linux={"resources": {"devices": [{"allow": False, "access": "rwm"}], **limits}},
        )
        assert text.startswith("hugetlbfs ")
        assert "pagesize=2M" in text
        again = pod.empty_dir("unlimited")
        refusal = pytest.raises(GRPCError, match="emptyDir unlimited: the container has no limit for huge pages")
        with disks.mounted("nodev", again, "-t", "hugetlbfs"), refusal:
            async with pod.made("true", mounts=[bind(again, "/huge")]):
                pass


async def test_a_socket_in_a_shared_directory_joins_two_containers(pod: DiskPod, tmp_path: Path):
    mounts = [bind(tmp_path, "/shared")]
    link = "touch /shared/socket; ln -s /shared/socket /dev/log"
    async with pod.made("sh", "-c", f"{link}; exec syslogd -n -O /shared/messages", mounts=mounts) as server:
        await server.start()
        await eventually_async(_is_socket(tmp_path / "socket"), "the socket is there", 60.0)
        await pod.output("sh", "-c", "ln -s /shared/socket /dev/log; logger hello from the client", mounts=mounts)
        await eventually_async(_holds(tmp_path / "messages", "hello from the client"), "the message arrives", 60.0)


def _is_socket(path: Path) -> Callable[[], Awaitable[bool]]:
    async def test() -> bool:
        return path.is_socket()

    return test


def _holds(path: Path, text: str) -> Callable[[], Awaitable[bool]]:
    async def test() -> bool:
        return path.exists() and text in path.read_text()

    return test


async def test_what_the_host_mounts_later_appears_where_propagation_asks_for_it(pod: DiskPod):
    source = pod.directory / "propagated"
    with disks.mounted("tmpfs", source, "-t", "tmpfs"):
        run("mount", "--make-rshared", str(source)).check()
        async with pod.made("sleep", "1000", mounts=[bind(source, "/data", "rslave")]) as container:
            await container.start()
            inner = source / "inner"
            with disks.mounted("tmpfs", inner, "-t", "tmpfs"):
                (inner / "late").write_text("late")
                assert await container.exec("cat", "/data/inner/late") == "late"


async def test_what_a_container_mounts_can_not_appear_on_the_host(pod: DiskPod, tmp_path: Path):
    with pytest.raises(GRPCError, match=r"mount /data: .* can't appear on the host") as refused:
        async with pod.made("true", mounts=[bind(tmp_path, "/data", "rshared")]):
            pass
    assert refused.value.status is Status.UNIMPLEMENTED
