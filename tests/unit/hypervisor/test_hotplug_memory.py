"""Contract: memory comes whole or not at all, and what the guest can't give back stays and is told."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from hypervisor.errors import HypervisorError
from hypervisor.hotplug import memory
from hypervisor.hotplug.memory import Dimms, VirtioMem
from hypervisor.hotplug.plug import Hotplug
from hypervisor.hotplug.slots import PciSlots
from tests.fakes.monitor import FakeMonitor

pytestmark = pytest.mark.anyio
MIB = 1 << 20
PATIENCE = 5.0


@pytest.fixture
def monitor() -> FakeMonitor:
    return FakeMonitor(lambda _: None)


@pytest.fixture
def hotplug(monitor: FakeMonitor) -> Hotplug:
    return Hotplug(monitor, PciSlots(1))


async def test_a_dimm_is_what_is_missing_rounded_up_in_memory_that_can_be_shared(monitor, hotplug):
    dimms = Dimms(hotplug, 2)

    await dimms.grow(200, 128)
    await dimms.grow(256, 128)
    await dimms.grow(257, 128)

    assert dimms.plugged_mib == 384
    assert monitor.memory["mem0"] == {
        "qom-type": "memory-backend-memfd",
        "id": "mem0",
        "size": 256 * MIB,
        "share": True,
    }
    assert monitor.devices["dimm1"] == {"driver": "pc-dimm", "id": "dimm1", "memdev": "mem1"}


async def test_no_free_slot(monitor, hotplug):
    dimms = Dimms(hotplug, 1)
    await dimms.grow(128, 128)

    with pytest.raises(
        HypervisorError, match=r"no free memory slot for 128 MiB: all 1 are in use \(see memory_slots\)"
    ):
        await dimms.grow(256, 128)

    assert dimms.plugged_mib == 128


async def test_a_dimm_that_qemu_refuses_leaves_no_memory_behind(monitor, hotplug):
    dimms = Dimms(hotplug, 1)
    monitor.errors["device_add"] = "not enough space"

    with pytest.raises(HypervisorError, match=r"plug in pc-dimm dimm0: .*not enough space"):
        await dimms.grow(128, 128)

    assert not monitor.memory
    assert dimms.plugged_mib == 0


async def test_a_dimm_that_qemu_makes_too_late_is_taken_back(monitor, hotplug):
    dimms = Dimms(hotplug, 1)
    monitor.unanswered.add("device_add")

    with pytest.raises(HypervisorError, match="no answer within 5 s"):
        await dimms.grow(128, 128)

    assert not monitor.devices
    assert not monitor.memory
    monitor.unanswered.clear()
    await dimms.grow(128, 128)


async def test_dimms_go_as_a_whole_and_their_slot_is_free_again(monitor, hotplug):
    dimms = Dimms(hotplug, 2)
    await dimms.grow(128, 128)
    await dimms.grow(512, 128)

    assert await dimms.shrink(500) is None
    assert dimms.plugged_mib == 512
    assert await dimms.shrink(128) is None
    assert dimms.plugged_mib == 128
    await dimms.grow(256, 128)
    assert sorted(monitor.memory) == ["mem0", "mem1"]


async def test_a_dimm_that_the_guest_can_not_empty_stays(monitor, hotplug):
    dimms = Dimms(hotplug, 2)
    await dimms.grow(128, 128)
    monitor.refused.add("dimm0")

    problem = await dimms.shrink(0)

    assert str(problem) == "unplug dimm0: the guest refused: DEVICE_UNPLUG_GUEST_ERROR"
    assert dimms.plugged_mib == 128


async def test_virtio_mem_follows_both_ways(monitor, hotplug):
    device = VirtioMem(hotplug, 1024)

    await device.grow(200, 128)
    assert device.plugged_mib == 256
    assert await device.shrink(100) is None
    assert device.plugged_mib == 100
    await device.grow(4096, 128)
    assert device.plugged_mib == 1024


async def test_what_a_guest_does_not_take_is_taken_back(monitor, hotplug, monkeypatch):
    monkeypatch.setattr(memory, "RESIZE_TIMEOUT", 0.05)
    device = VirtioMem(hotplug, 1024)
    monitor.virtio_mem_bounds = (0, 64 * MIB)

    with pytest.raises(HypervisorError, match=r"the guest took 64 of 512 MiB within 0.05 s"):
        await device.grow(512, 128)

    assert monitor.virtio_mem == 0
    assert device.plugged_mib == 0


async def test_what_a_guest_does_not_give_back_is_told(monitor, hotplug):
    device = VirtioMem(hotplug, 1024)
    await device.grow(512, 128)
    monitor.virtio_mem_bounds = (300 * MIB, 1 << 40)

    problem = await device.shrink(0, timeout=0.05)

    assert str(problem) == "the guest gave back all but 300 MiB within 0.05 s"
    assert device.plugged_mib == 300


@pytest.mark.parametrize("command", ["object-add", "device_add"])
async def test_a_dimm_that_nobody_waits_for_any_more_is_there_and_known(monitor, hotplug, command):
    dimms, answered = Dimms(hotplug, 2), anyio.Event()
    monitor.late[command] = answered

    with anyio.fail_after(PATIENCE), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(dimms.grow, 128, 128)
            await waited_for(monitor, command)
            scope.cancel()
            answered.set()

    assert dimms.plugged_mib == 128
    await dimms.grow(256, 128)
    assert sorted(monitor.devices) == ["dimm0", "dimm1"]


async def test_what_virtio_mem_was_asked_for_and_nobody_waits_for_is_taken_back(monitor, hotplug):
    memory, answered = VirtioMem(hotplug, 1024), anyio.Event()
    monitor.late["qom-get"] = answered

    with anyio.fail_after(PATIENCE), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(memory.grow, 512, 128)
            await waited_for(monitor, "qom-get")
            scope.cancel()
            answered.set()

    assert monitor.virtio_mem == 0


async def waited_for(monitor: FakeMonitor, command: str) -> None:
    while command not in [name for name, _ in monitor.commands]:
        await anyio.lowlevel.checkpoint()
