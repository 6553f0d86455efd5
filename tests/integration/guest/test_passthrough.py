"""PCI devices that are passed on: a virtio device plays the one of the host, plugged in behind the bridge."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from protos.gen import grpc as pb
from tests.integration.guest import machine as making
from tests.integration.guest.machine import MIB, ROOTFS, Disk, Machine

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

ENVIRONMENT = ["PCIDEVICE_NIC=0000:3b:00.0", 'PCIDEVICE_NIC_INFO={"0000:3b:00.0":{}}']


@pytest.fixture(scope="module")
async def function(machine: Machine) -> str:
    """The PCI path of the device."""
    await machine.qmp("device_add", {"driver": "virtio-rng-pci", "id": "passed", "bus": "pci-bridge-0", "addr": "0x9"})
    return "02/09"


def device(kind: str, path: str) -> pb.Device:
    """The device as Kata's runtime names it."""
    return pb.Device(id="vfio0", type=kind, container_path="/dev/vfio/7", options=[f"0000:3b:00.0={path}"])


async def test_one_for_the_guests_kernel_is_waited_for_and_its_address_is_told(machine: Machine, function: str):
    container_id = machine.name()
    await machine.create(container_id, "sleep 1000", devices=[device("vfio-pci-gk", function)], env=ENVIRONMENT)
    await machine.agent.start_container(container_id)

    address = await machine.execute(container_id, "tr '\\0' '\\n' < /proc/1/environ | grep PCIDEVICE_NIC")
    driver = await machine.execute(container_id, "ls -d /sys/bus/pci/drivers/virtio-pci/0000:*:09.0")

    await machine.agent.remove_container(container_id)
    guest = driver.rpartition("/")[2]
    assert guest.endswith(":09.0")
    assert address.splitlines() == [f"PCIDEVICE_NIC={guest}", f'PCIDEVICE_NIC_INFO={{"{guest}":{{}}}}']


async def test_one_for_the_container_needs_an_iommu(machine: Machine, function: str):
    with pytest.raises(AgentError, match="the guest has no IOMMU") as caught:
        await machine.run("true", devices=[device("vfio-pci", function)])

    assert caught.value.code is Status.FAILED_PRECONDITION


async def test_one_for_the_container_is_its_iommu_group(tmp_path: Path):
    root = making.ext4(tmp_path / "disk", 16 * MIB, making.make_root(tmp_path / "tree"))
    storage = pb.Storage(driver="blk", source="10", fstype="ext4", mount_point=ROOTFS)
    disks = [Disk("root", root, "virtio-blk-pci,addr=0x10")]
    extra = ["-device", "intel-iommu", "-device", "virtio-rng-pci,id=passed,addr=0x18"]
    script = "ls /sys/bus/pci/drivers/vfio-pci | grep :18.0; for g in /dev/vfio/*; do exec 3<$g && echo opened; done"

    async with making.running(tmp_path, disks, extra, [storage], ("intel_iommu=on",)) as machine:
        output = await machine.output(script, devices=[device("vfio-pci", "18")])

    assert output.split() == ["0000:00:18.0", "opened"]
