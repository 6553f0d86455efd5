"""Disks are found by their address, waited for when they come late, and never the guest's own."""

from __future__ import annotations

import asyncio
import os

import pytest

from guest.agent.devices import blocks, uevents
from guest.agent.devices.addresses import PciPath
from guest.agent.devices.finder import DeviceFinder
from guest.agent.errors import DeadlineError, InternalError, InvalidArgumentError

pytestmark = pytest.mark.anyio


@pytest.fixture
def loaded():
    return []


@pytest.fixture
def finder(layout, sysfs, loaded):
    async def load(name):
        loaded.append(name)
        raise InternalError("there are no modules")

    return DeviceFinder(layout, load, 0.01, root="/proc")


async def test_a_virtio_disk_on_the_root_bus_is_found_by_its_slot(finder, sysfs):
    sysfs.disk("devices/pci0000:00/0000:00:10.0/virtio3", "vdb", "254:16")

    disk = await finder.block("blk", "10")

    assert (disk.path, disk.number) == (f"{sysfs.dev}/vdb", (254, 16))


async def test_a_disk_behind_a_bridge_is_found_whatever_the_guest_calls_the_bus(finder, sysfs):
    sysfs.disk(f"{sysfs.bridge('02.0', '01')}:03.0/virtio7", "vdc", "254:32")

    assert (await finder.block("blk", "02/03")).number == (254, 32)


async def test_a_disk_below_another_root_complex_is_found(finder, sysfs):
    sysfs.disk("devices/pci0000:20/0000:20:00.0/pci_bus/x", "none", "1:1")
    os.makedirs(f"{sysfs.sys}/devices/pci0000:20/0000:20:01.0/pci_bus/0000:21")
    sysfs.disk("devices/pci0000:20/0000:20:01.0/0000:21:02.0/virtio0", "vdd", "254:48")

    assert (await finder.block("blk", "20/01/02")).number == (254, 48)


async def test_a_scsi_disk_is_found_behind_whatever_host_and_the_bus_is_scanned_for_it(finder, sysfs, loaded):
    scan = sysfs.file("class/scsi_host/host5/scan", "")
    sysfs.file("bus/scsi/devices/5:0:30:1/other", "")
    with pytest.raises(DeadlineError):
        await finder.block("scsi", "3:1")
    with open(scan) as file:
        assert file.read() == "0 3 1"
    assert loaded == ["virtio_scsi", "sd_mod"]

    sysfs.disk("bus/scsi/devices/5:0:3:1", "sda", "8:0")

    assert (await finder.block("scsi", "3:1")).number == (8, 0)


async def test_a_disk_on_the_channel_subsystem_is_found(finder, sysfs):
    sysfs.disk("bus/ccw/devices/0.0.0004/virtio1", "vda", "254:0")

    assert (await finder.block("blk-ccw", "0.0.0004")).number == (254, 0)


@pytest.mark.parametrize("driver", ["mmioblk", "nvdimm", "blk"])
async def test_a_disk_is_found_by_its_node(finder, sysfs, driver):
    sysfs.disk("devices/virtual", "pmem0", "259:0")

    assert (await finder.block(driver, "/dev/pmem0")).number == (259, 0)


async def test_a_disk_that_can_not_be_opened_yet_is_not_there_yet(finder, sysfs):
    sysfs.disk("devices/pci0000:00/0000:00:10.0/virtio3", "vdb", "254:16")
    os.unlink(f"{sysfs.dev}/vdb")

    with pytest.raises(DeadlineError):
        await finder.block("blk", "10")


async def test_the_pci_bus_is_scanned_only_for_what_is_not_there(finder, sysfs):
    sysfs.disk("devices/pci0000:00/0000:00:10.0/virtio3", "vdb", "254:16")
    await finder.block("blk", "10")
    assert sysfs.read("bus/pci/rescan") == ""

    with pytest.raises(DeadlineError, match=r"blk device 11 did not appear within 0\.01 s"):
        await finder.block("blk", "11")

    assert sysfs.read("bus/pci/rescan") == "1"


async def test_a_disk_that_comes_late_is_waited_for(layout, sysfs, monkeypatch):
    waits = asyncio.Queue()

    async def wait(self, timeout):
        waits.put_nowait(timeout)
        sysfs.disk("devices/pci0000:00/0000:00:10.0/virtio3", "vdb", "254:16")

    monkeypatch.setattr(uevents.Uevents, "wait", wait)

    async def load(name):
        """A kernel with everything built in."""

    disk = await DeviceFinder(layout, load, 20, root="/proc").block("blk", "10")

    assert disk.number == (254, 16)
    assert waits.qsize() == 1


async def test_a_wait_for_an_event_ends_without_one():
    with uevents.Uevents() as events:
        async with asyncio.timeout(20):
            await events.wait(0.01)


class TestRootDisk:
    @pytest.fixture
    def root(self, sysfs, monkeypatch):
        """The root is a partition of vda, which has two."""
        place = "devices/pci0000:00/0000:00:05.0/virtio1"
        sysfs.disk(place, "vda", "254:0")
        for number in (1, 2):
            sysfs.file(f"{place}/block/vda/vda{number}/dev", f"254:{number}")
            sysfs.file(f"{place}/block/vda/vda{number}/partition", str(number))
            sysfs.link(f"dev/block/254:{number}", f"{place}/block/vda/vda{number}")
            sysfs.link(f"class/block/vda{number}", f"{place}/block/vda/vda{number}")
            with open(f"{sysfs.dev}/vda{number}", "w"):
                pass
        self.stand_on(monkeypatch, os.makedev(254, 1))

    def stand_on(self, monkeypatch, device):
        real = os.stat
        result = os.stat_result((0o40755, 0, device, 0, 0, 0, 0, 0, 0, 0))
        monkeypatch.setattr(blocks.os, "stat", lambda path, **more: result if path == "/proc" else real(path, **more))

    async def test_it_is_the_whole_disk_with_all_partitions(self, finder, root):
        assert finder.root_numbers == {(254, 0), (254, 1), (254, 2)}

    @pytest.mark.parametrize("address", ["05", "/dev/vda", "/dev/vda1", "/dev/vda2"])
    async def test_it_is_never_found(self, finder, root, address):
        with pytest.raises(InvalidArgumentError, match="own root disk"):
            await finder.block("blk", address)

    async def test_what_a_mapped_root_lies_on_belongs_to_it(self, finder, root, sysfs, monkeypatch):
        sysfs.disk("devices/virtual", "dm-0", "253:0")
        sysfs.link("devices/virtual/block/dm-0/slaves/vda1", "class/block/vda1")
        self.stand_on(monkeypatch, os.makedev(253, 0))

        assert {(253, 0), (254, 0), (254, 2)} <= finder.root_numbers

    async def test_a_root_in_memory_is_no_disk(self, finder, sysfs, monkeypatch):
        self.stand_on(monkeypatch, os.makedev(0, 2))

        assert finder.root_numbers == frozenset()


async def test_a_pci_function_has_the_guests_address(finder, sysfs):
    os.makedirs(f"{sysfs.sys}/{sysfs.bridge('02.0', '01')}:03.0")

    assert await finder.pci(PciPath.parse("02/03")) == "0000:01:03.0"


async def test_a_path_through_what_is_no_bridge_leads_nowhere(finder, sysfs):
    os.makedirs(f"{sysfs.sys}/devices/pci0000:00/0000:00:02.0")

    with pytest.raises(DeadlineError, match="PCI device 02/03"):
        await finder.pci(PciPath.parse("02/03"))
