"""Contract: an interface is plugged in whole or not at all, whatever QEMU does."""

from __future__ import annotations

import os

import pytest

from hypervisor.errors import HypervisorError
from hypervisor.hotplug.nics import plug, unplug
from hypervisor.nics import Nic
from tests.fakes.vm import FakeVm

pytestmark = pytest.mark.anyio


@pytest.fixture
def nic():
    tap = os.open(os.devnull, os.O_RDWR)
    yield Nic("nic2", "02:00:00:00:00:02", (tap,))
    os.close(tap)


async def test_one_that_came_goes_again(vm: FakeVm, nic: Nic):
    plugged = await plug(vm.hotplug, nic)

    assert vm.monitor.devices["nic2"]["netdev"] == "net-nic2"
    await unplug(vm.hotplug, plugged)
    assert (vm.monitor.devices, vm.hotplug.slots.taken) == ({}, {})


async def test_one_that_qemu_makes_too_late_is_taken_back_and_may_come_again(vm: FakeVm, nic: Nic):
    vm.monitor.unanswered.add("device_add")

    with pytest.raises(HypervisorError, match="no answer within 5 s"):
        await plug(vm.hotplug, nic)

    assert (vm.monitor.devices, vm.hotplug.slots.taken) == ({}, {})
    assert vm.monitor.commands[-1] == ("netdev_del", {"id": "net-nic2"})
    vm.monitor.unanswered.clear()
    await plug(vm.hotplug, nic)
