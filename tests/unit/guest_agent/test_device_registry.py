"""Device messages of the protocol: disks and what is passed through, and the refusal of the rest."""

from __future__ import annotations

import os

import pytest

from guest.agent.devices import vfio
from guest.agent.devices.registry import MAX_DEVICES, find_all
from guest.agent.errors import FailedPreconditionError, InvalidArgumentError, UnimplementedError
from protos.lean.gen.grpc import Device

pytestmark = pytest.mark.anyio


@pytest.fixture
def finder(context):
    return context.devices


def fields(update):
    return (update.container_path, update.type, update.major, update.minor, update.final_path)


async def test_disks_are_found_by_their_id_or_their_node(finder, sysfs):
    sysfs.disk("devices/pci0000:00/0000:00:10.0/virtio3", "vdb", "254:16")
    sysfs.disk("devices/virtual", "pmem1", "259:1")
    devices = [
        Device(type="blk", id="10", container_path="/dev/a/"),
        Device(type="nvdimm", id="x", vm_path="/dev/pmem1", container_path="/dev/b"),
    ]

    updates, addresses = await find_all(devices, finder)

    assert [fields(update) for update in updates] == [
        ("/dev/a", "b", 254, 16, "/dev/a"),
        ("/dev/b", "b", 259, 1, "/dev/b"),
    ]
    assert addresses == {}


@pytest.mark.parametrize("path", ["", "relative", "/dev/../etc", "/x\0"])
async def test_a_container_path_is_checked_before_anything_is_waited_for(finder, path):
    with pytest.raises(InvalidArgumentError, match="container path"):
        await find_all([Device(type="blk", id="1f", container_path=path)], finder)


async def test_an_unknown_type_is_named(finder):
    with pytest.raises(UnimplementedError, match="vfio-ap"):
        await find_all([Device(type="vfio-ap", container_path="/dev/x")], finder)


async def test_the_number_of_devices_is_bounded(finder):
    with pytest.raises(InvalidArgumentError, match="too many"):
        await find_all([Device()] * (MAX_DEVICES + 1), finder)


class TestPassedThrough:
    @pytest.fixture
    def function(self, sysfs):
        """A function at 02/03 that another driver has, in IOMMU group 7, whose VFIO device is there."""
        place = f"{sysfs.bridge('02.0', '01')}:03.0"
        sysfs.file(f"{place}/driver_override", "")
        sysfs.file("bus/pci/drivers/other/unbind", "")
        sysfs.link(f"{place}/driver", "bus/pci/drivers/other")
        sysfs.link("bus/pci/devices/0000:01:03.0", place)
        os.makedirs(f"{sysfs.sys}/kernel/iommu_groups/7")
        sysfs.link(f"{place}/iommu_group", "kernel/iommu_groups/7")
        sysfs.file("bus/pci/drivers_probe", "")
        sysfs.file("class/vfio/7/dev", "511:3\n")
        return place

    def device(self, kind, *options):
        return Device(type=kind, id="vfio0", container_path="/dev/vfio/12", options=list(options))

    async def test_the_guests_kernel_keeps_it_and_its_address_is_told(self, finder, sysfs, function):
        found = await find_all([self.device("vfio-pci-gk", "0000:3b:00.0=02/03")], finder)

        assert found == ([], {"0000:3b:00.0": "0000:01:03.0"})
        assert sysfs.read(f"{function}/driver_override") == ""

    async def test_a_group_is_bound_to_vfio_and_becomes_a_device(self, finder, sysfs, function):
        updates, addresses = await find_all([self.device("vfio-pci", "3b:00.0=02/03")], finder)

        assert [fields(update) for update in updates] == [("/dev/vfio/12", "c", 511, 3, "/dev/vfio/7")]
        assert addresses == {"0000:3b:00.0": "0000:01:03.0"}
        assert sysfs.read(f"{function}/driver_override") == vfio.DRIVER
        assert sysfs.read("bus/pci/drivers/other/unbind") == "0000:01:03.0"
        assert sysfs.read("bus/pci/drivers_probe") == "0000:01:03.0"

    async def test_one_that_vfio_has_already_is_left_to_it(self, finder, sysfs, function):
        sysfs.file("bus/pci/drivers/vfio-pci/unbind", "")
        os.unlink(f"{sysfs.sys}/{function}/driver")
        sysfs.link(f"{function}/driver", "bus/pci/drivers/vfio-pci")

        await find_all([self.device("vfio-pci", "3b:00.0=02/03")], finder)

        assert sysfs.read("bus/pci/drivers/vfio-pci/unbind") == ""

    async def test_without_an_iommu_there_is_no_group(self, finder, sysfs, function):
        os.unlink(f"{sysfs.sys}/{function}/iommu_group")

        with pytest.raises(FailedPreconditionError, match="no IOMMU"):
            await find_all([self.device("vfio-pci", "3b:00.0=02/03")], finder)

    @pytest.mark.parametrize(
        "options", [[], ["x"], ["3b:00.0"], ["3b:00.0=.."], ["x=02/03"], ["3b:00.0=02/03", "0000:3b:00.0=02/03"]]
    )
    @pytest.mark.parametrize("kind", ["vfio-pci", "vfio-pci-gk"])
    async def test_malformed_options_are_refused(self, finder, function, kind, options):
        with pytest.raises(InvalidArgumentError):
            await find_all([self.device(kind, *options)], finder)

    async def test_one_function_of_the_host_is_one_of_the_guest(self, finder, sysfs, function):
        os.makedirs(f"{sysfs.sys}/devices/pci0000:00/0000:00:09.0")
        devices = [self.device("vfio-pci-gk", f"3b:00.0={path}") for path in ("02/03", "09")]

        with pytest.raises(InvalidArgumentError, match="two devices"):
            await find_all(devices, finder)
