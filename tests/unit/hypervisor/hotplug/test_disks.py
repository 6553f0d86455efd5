"""Disks that come and go: what QEMU is told, in which order, and what is undone when it refuses."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from hypervisor.errors import HypervisorError, VmGoneError
from hypervisor.hotplug.disks import Disk, DiskImage, Disks, DiskSettings, front_end, node
from tests.fakes.vm import FakeVm

pytestmark = pytest.mark.anyio

IMAGE = DiskImage(Path("/images/a"), is_device=False, read_only=False)
DEVICE = DiskImage(Path("/dev/sda"), is_device=True, read_only=True)
BLK = DiskSettings(bus="virtio-blk", aio="threads")


def test_a_file_and_a_device_are_opened_as_what_they_are():
    assert node("d", IMAGE, BLK)["file"]["driver"] == "file"
    opened = node("d", DEVICE, BLK)
    assert (opened["file"]["driver"], opened["file"]["filename"]) == ("host_device", "/dev/sda")
    assert opened["read-only"] is opened["file"]["read-only"] is True


def test_the_cache_is_qemus_choice_unless_set_and_native_io_bypasses_it():
    assert "cache" not in node("d", IMAGE, BLK)
    chosen = node("d", IMAGE, DiskSettings(aio="threads", direct=False, no_flush=True))
    assert chosen["cache"] == chosen["file"]["cache"] == {"direct": False, "no-flush": True}
    assert node("d", IMAGE, DiskSettings(aio="native"))["file"]["cache"] == {"direct": True}


def test_errors_of_the_disk_are_the_guests_and_sectors_as_configured():
    plain = front_end("d", IMAGE, BLK)
    assert plain == {"drive": "d", "rerror": "report", "werror": "report"}
    sized = front_end("d", DEVICE, DiskSettings(logical_sector=512, physical_sector=4096))
    assert (sized["logical_block_size"], sized["physical_block_size"], sized["share-rw"]) == (512, 4096, True)


async def test_virtio_blk_takes_a_slot_and_gives_it_back(vm: FakeVm):
    disks = Disks(vm.hotplug, BLK)
    disk = await disks.attach("disk0", IMAGE)
    assert disk.address.text == "02/01"
    assert vm.monitor.devices["disk0-dev"]["bus"] == "pci-bridge-0"
    await disks.detach(disk)
    assert (vm.monitor.devices, vm.monitor.nodes, vm.hotplug.slots.taken) == ({}, {}, {})


async def test_virtio_scsi_plugs_one_controller_and_reuses_units(vm: FakeVm):
    disks = Disks(vm.hotplug, DiskSettings(aio="threads"))
    first, second = await disks.attach("disk0", IMAGE), await disks.attach("disk1", DEVICE)
    assert (first.address.text, second.address.text) == ("0:0", "0:1")
    assert list(vm.monitor.devices) == ["scsi0", "disk0-dev", "disk1-dev"]
    await disks.detach(first)
    assert (await disks.attach("disk2", IMAGE)).address.text == "0:0"


@pytest.mark.parametrize("command", ["blockdev-add", "device_add"])
async def test_a_refusal_names_the_image_or_the_device_and_nothing_is_left(vm: FakeVm, command: str):
    vm.monitor.errors[command] = 'Failed to get "write" lock'
    with pytest.raises(HypervisorError, match=r'(open /images/a|plug in virtio-blk-pci disk0-dev): .*"write" lock'):
        await Disks(vm.hotplug, BLK).attach("disk0", IMAGE)
    assert (vm.monitor.devices, vm.monitor.nodes, vm.hotplug.slots.taken) == ({}, {}, {})


async def test_without_io_uring_threads_do_it(vm: FakeVm):
    execute = vm.monitor.execute

    async def without_io_uring(command, arguments=None, timeout=None):
        if command == "blockdev-add" and arguments["file"]["aio"] == "io_uring":
            vm.monitor.errors[command] = "Unable to use linux io_uring: Function not implemented"
        else:
            vm.monitor.errors.clear()
        return await execute(command, arguments, timeout)

    vm.monitor.execute = without_io_uring
    await Disks(vm.hotplug, DiskSettings(bus="virtio-blk")).attach("disk0", IMAGE)
    assert vm.monitor.nodes["disk0"]["file"]["aio"] == "threads"


async def test_a_disk_that_the_guest_keeps_keeps_its_slot_and_its_file(vm: FakeVm):
    disks = Disks(vm.hotplug, BLK)
    disk = await disks.attach("disk0", IMAGE)
    vm.monitor.refused.add("disk0-dev")
    with pytest.raises(HypervisorError, match="the guest refused"):
        await disks.detach(disk)
    assert list(vm.monitor.nodes) == ["disk0"]
    assert len(vm.hotplug.slots.taken) == 1


async def test_a_dead_vm_has_let_go_and_takes_no_more(vm: FakeVm):
    disks = Disks(vm.hotplug, BLK)
    disk: Disk = await disks.attach("disk0", IMAGE)
    vm.die()
    await disks.detach(disk)
    with pytest.raises(VmGoneError):
        await disks.attach("disk1", IMAGE)
    assert vm.hotplug.slots.taken == {}


@pytest.mark.parametrize("command", ["blockdev-add", "device_add"])
@pytest.mark.parametrize("bus", ["virtio-blk", "virtio-scsi"])
async def test_who_gives_up_leaves_nothing_that_is_in_the_way_of_the_next(vm: FakeVm, command: str, bus):
    disks = Disks(vm.hotplug, DiskSettings(bus=bus, aio="threads"))
    answered = vm.monitor.late[command] = anyio.Event()

    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(disks.attach, "disk0", IMAGE)
            while command not in [name for name, _ in vm.monitor.commands]:
                await anyio.lowlevel.checkpoint()
            scope.cancel()
            answered.set()

    assert not vm.monitor.nodes
    assert not [name for name in vm.monitor.devices if name.startswith("disk")]
    second = await disks.attach("disk1", IMAGE)
    assert sorted(vm.monitor.nodes) == ["disk1"]
    await disks.detach(second)


async def test_the_place_of_a_disk_that_can_not_be_taken_back_is_not_given_to_another(vm: FakeVm):
    disks = Disks(vm.hotplug, DiskSettings(aio="threads"))
    await disks.attach("disk0", IMAGE)
    vm.monitor.devices["disk1-dev"] = {"id": "disk1-dev"}
    vm.monitor.refused.add("disk1-dev")

    with pytest.raises(HypervisorError, match="Duplicate"):
        await disks.attach("disk1", IMAGE)

    assert (await disks.attach("disk2", IMAGE)).address.text == "0:2"
