"""Contract: vCPUs are plugged in whole or not at all, and go only with the guest's consent, which has a deadline."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from hypervisor.errors import HypervisorError
from hypervisor.hotplug.cpus import Vcpus
from hypervisor.hotplug.plug import Hotplug
from hypervisor.hotplug.slots import PciSlots
from tests.fakes.monitor import FakeMonitor

pytestmark = pytest.mark.anyio


@pytest.fixture
def monitor() -> FakeMonitor:
    return FakeMonitor(lambda _: None)


@pytest.fixture
def vcpus(monitor: FakeMonitor) -> Vcpus:
    return Vcpus(Hotplug(monitor, PciSlots(1)))


async def test_the_lowest_places_are_taken_first(monitor: FakeMonitor, vcpus: Vcpus):
    assert await vcpus.grow(3) == 2

    assert await vcpus.count() == 3
    assert sorted(monitor.devices) == ["vcpu-1", "vcpu-2"]
    assert monitor.devices["vcpu-1"] == {"driver": "max-x86_64-cpu", "id": "vcpu-1", "socket-id": 1}


async def test_enough_is_enough(monitor: FakeMonitor, vcpus: Vcpus):
    await vcpus.grow(3)

    assert await vcpus.grow(2) == 0
    assert await vcpus.count() == 3


async def test_more_than_there_are_places_is_refused_whole(monitor: FakeMonitor, vcpus: Vcpus):
    with pytest.raises(HypervisorError, match="the VM can have 4 vCPUs, not 5"):
        await vcpus.grow(5)

    assert not monitor.devices


async def test_a_refusal_takes_back_what_was_plugged_in(monitor: FakeMonitor, vcpus: Vcpus):
    monitor.devices["vcpu-2"] = {"id": "vcpu-2"}

    with pytest.raises(HypervisorError, match="Duplicate device ID 'vcpu-2'"):
        await vcpus.grow(3)

    assert "vcpu-1" not in monitor.devices


async def test_one_that_qemu_makes_too_late_is_taken_back(monitor: FakeMonitor, vcpus: Vcpus):
    monitor.unanswered.add("device_add")

    with pytest.raises(HypervisorError, match="no answer within 5 s"):
        await vcpus.grow(3)

    assert not monitor.devices


async def test_where_none_can_go_nothing_is_unplugged_whatever_is_refused(monitor: FakeMonitor):
    monitor.devices["vcpu-2"] = {"id": "vcpu-2"}
    vcpus = Vcpus(Hotplug(monitor, PciSlots(1)), can_go=False)

    with pytest.raises(HypervisorError, match="Duplicate device ID 'vcpu-2'"):
        await vcpus.grow(3)

    assert await vcpus.count() == 2
    assert "device_del" not in [command for command, _ in monitor.commands]


async def test_the_last_one_goes_first_and_the_booted_ones_stay(monitor: FakeMonitor, vcpus: Vcpus):
    await vcpus.grow(3)

    assert await vcpus.shrink(2) is None
    assert list(monitor.devices) == ["vcpu-1"]
    assert await vcpus.shrink(0) is None
    assert await vcpus.count() == 1


async def test_a_guest_that_does_not_let_go_is_not_waited_for(monitor: FakeMonitor, vcpus: Vcpus):
    await vcpus.grow(2)
    monitor.clung.add("vcpu-1")

    problem = await vcpus.shrink(1, timeout=0.05)

    assert str(problem) == "unplug vcpu-1: the guest did not let go of it within 0.05 s"
    assert await vcpus.count() == 2


async def test_a_guest_that_refuses_says_so_at_once(monitor: FakeMonitor, vcpus: Vcpus):
    await vcpus.grow(2)
    monitor.clung.add("vcpu-1")
    told = {"device": "vcpu-1", "source": 3, "status": 1, "slot": "1", "slot-type": "CPU"}
    plain = monitor.execute

    async def refusing(command, arguments=None, timeout=None):
        answer = await plain(command, arguments, timeout)
        if command == "device_del":
            monitor.tell("ACPI_DEVICE_OST", info=told)
        return answer

    monitor.execute = refusing  # type: ignore[method-assign]

    problem = await vcpus.shrink(1, timeout=30)

    assert str(problem) == "unplug vcpu-1: the guest refused (ACPI status 1)"


async def test_who_gives_up_leaves_all_of_them_and_not_some(monitor: FakeMonitor, vcpus: Vcpus):
    answered = monitor.late["device_add"] = anyio.Event()

    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(vcpus.grow, 3)
            while not monitor.devices:
                await anyio.lowlevel.checkpoint()
            scope.cancel()
            answered.set()

    assert await vcpus.count() == 3
