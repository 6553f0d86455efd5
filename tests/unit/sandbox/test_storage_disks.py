"""Disks of a pod and devices of a container: held once, given back by the last, and never the host's by accident."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hypervisor.hotplug.disks import Disks, DiskSettings
from sandbox.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from sandbox.oci import Device, DeviceRule, Linux, Resources, Root, Spec
from sandbox.sharing.directory import SharedDirectory
from sandbox.storage import devices, images
from sandbox.storage.disks import PodDisks
from sandbox.volumes import BoundDevice, ShareEntry
from tests.fakes.vm import FakeVm

pytestmark = pytest.mark.anyio

ALL = DeviceRule(allow=True, access="rwm")
SDA = Device("/dev/sda", "b", 8, 0)
DATA = Device("/dev/data", "b", 8, 16)


@pytest.fixture
async def vm() -> FakeVm:
    vm = FakeVm()
    await vm.start(1.0)
    return vm


@pytest.fixture
def pod(vm: FakeVm) -> PodDisks:
    return PodDisks(Disks(vm.hotplug, DiskSettings(bus="virtio-blk", aio="threads")))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"x")
    return path


def spec(*found: Device, rules: tuple[DeviceRule, ...] = ()) -> Spec:
    return Spec(root=Root("rootfs"), linux=Linux(devices=list(found), resources=Resources(devices=list(rules))))


async def test_an_image_is_plugged_in_once_and_goes_with_its_last_holder(vm: FakeVm, pod: PodDisks, image: Path):
    link = image.with_name("link")
    link.symlink_to(image)
    async with AsyncExitStack() as first:
        place = await pod.hold(str(image), False, "disk", first)
        async with AsyncExitStack() as second:
            assert await pod.hold(str(link), True, "disk", second) == place
        assert list(vm.monitor.nodes) == ["disk0"]
    assert (vm.monitor.nodes, vm.monitor.devices) == ({}, {})


async def test_a_disk_that_is_there_for_reading_is_not_written(pod: PodDisks, image: Path):
    async with AsyncExitStack() as held:
        await pod.hold(str(image), True, "disk", held)
        with pytest.raises(FailedPreconditionError, match="is in the VM as a read-only disk already"):
            await pod.hold(str(image), False, "disk", held)


async def test_a_disk_that_can_not_be_is_refused_with_its_use(vm: FakeVm, pod: PodDisks, image: Path, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.touch()
    held = AsyncExitStack()
    for path, words in (
        (tmp_path, "neither a block device nor"),
        (empty, "is empty"),
        (tmp_path / "no", "No such file"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"volume a: .*{words}"):
            await pod.hold(str(path), False, "volume a:", held)
    vm.monitor.errors["blockdev-add"] = 'Failed to get "write" lock'
    with pytest.raises(FailedPreconditionError, match=r'volume a: .*"write" lock'):
        await pod.hold(str(image), False, "volume a:", held)
    vm.die()
    with pytest.raises(UnavailableError, match="killed by SIGKILL"):
        await pod.hold(str(image), False, "volume a:", held)


async def test_a_disk_that_the_guest_keeps_does_not_hold_up_the_delete(vm: FakeVm, pod: PodDisks, image: Path):
    async with AsyncExitStack() as held:
        await pod.hold(str(image), False, "disk", held)
        vm.monitor.refused.add("disk0-dev")
    assert list(vm.monitor.nodes) == ["disk0"]


def test_of_a_privileged_containers_devices_the_hosts_own_are_left_out():
    def at_its_place(path: str, number: tuple[int, int]) -> bool:
        return (path, number) == ("/dev/sda", (8, 0))

    assert devices.disk_devices(spec(SDA, DATA, rules=(ALL,)), at_its_place) == [DATA]
    asked = DeviceRule(allow=True, type="b", major=8, minor=0, access="rwm")
    assert devices.disk_devices(spec(SDA, rules=(asked,)), at_its_place) == [SDA]


@pytest.mark.parametrize(("access", "read_only"), [("r", True), ("rm", True), ("rw", False), ("rwm", False)])
def test_a_device_is_for_reading_if_the_rules_say_so(access: str, read_only: bool):
    rule = DeviceRule(allow=True, type="b", major=8, minor=16, access=access)
    assert devices.read_only(spec(DATA, rules=(DeviceRule(allow=False, access="rwm"), rule)), DATA) is read_only


def test_what_is_sent_are_other_devices_disks_and_those_that_mounts_show():
    null = Device("/dev/null", "c", 1, 3)
    sent = devices.guest_devices(spec(null, SDA, DATA), [DATA], [BoundDevice("/dev/xvda", (7, 1), False)])
    assert sent == [null, DATA, Device("/dev/xvda", "b", 7, 1)]
    assert devices.with_devices(spec(SDA), sent).linux.devices == sent


def test_a_number_without_a_device_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(images, "_SYS_BLOCK", tmp_path)
    with pytest.raises(InvalidArgumentError, match="block device 8:0: this host has none of that number"):
        images.path_of((8, 0))
    (tmp_path / "8:0").mkdir()
    (tmp_path / "8:0/uevent").write_text("MAJOR=8\nDEVNAME=no-such-device\n")
    with pytest.raises(InvalidArgumentError, match="/dev/no-such-device is not its node"):
        images.path_of((8, 0))


def test_an_image_is_made_once_and_without_blocks(tmp_path: Path):
    path = tmp_path / "new"
    images.make_image(str(path), 1 << 20)
    assert (path.stat().st_size, path.stat().st_blocks) == (1 << 20, 0)
    path.write_bytes(b"used")
    images.make_image(str(path), 1 << 20)
    assert path.read_bytes() == b"used"
    with pytest.raises(InvalidArgumentError, match=r"make image .*: No such file"):
        images.make_image(str(tmp_path / "no/where"), 1)


async def test_an_entry_that_two_containers_have_stays_until_both_are_gone(
    tmp_path: Path, no_mounts: list[tuple[str, str]]
):
    source = tmp_path / "source"
    source.mkdir()
    shared = SharedDirectory(tmp_path / "shared")
    shared.prepare()
    entry = ShareEntry("volume-1", str(source), (), True)
    for container in ("a", "b"):
        shared.add(container, entry)
    assert [target for made, target in no_mounts if made == str(source)] == [str(tmp_path / "shared/volume-1")]
    await shared.remove("a")
    assert (tmp_path / "shared/volume-1").is_dir()
    await shared.remove("b")
    assert not (tmp_path / "shared/volume-1").exists()
