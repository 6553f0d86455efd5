"""Adding and removing devices on a VM that refuses, clings or dies."""

from __future__ import annotations

import anyio
import pytest

from hypervisor.errors import HypervisorError, VmGoneError
from tests.fakes.vm import FakeVm

pytestmark = pytest.mark.anyio


async def test_a_refused_device_is_named_with_qemus_words(vm: FakeVm):
    vm.monitor.errors["device_add"] = "Bus 'x' does not support hotplugging"
    with pytest.raises(HypervisorError, match=r"plug in virtio-blk-pci disk1: .*does not support hotplugging"):
        await vm.hotplug.add("virtio-blk-pci", "disk1", {"bus": "x"})
    assert vm.monitor.devices == {}


async def test_removal_waits_for_the_event_of_this_very_device(vm: FakeVm):
    await vm.hotplug.add("virtio-blk-pci", "disk1", {})
    vm.monitor.clung.add("disk1")
    removed = anyio.Event()

    async def remove() -> None:
        await vm.hotplug.remove("disk1")
        removed.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(remove)
            await anyio.wait_all_tasks_blocked()
            vm.monitor.tell("DEVICE_DELETED", device="disk2")
            vm.monitor.tell("DEVICE_UNPLUG_GUEST_ERROR", device="disk2")
            await anyio.wait_all_tasks_blocked()
            assert not removed.is_set()
            vm.monitor.tell("DEVICE_DELETED", device="disk1")


async def test_a_guest_that_refuses_or_clings_is_an_error(vm: FakeVm):
    for name in ("refused", "clung"):
        await vm.hotplug.add("virtio-blk-pci", name, {})
    vm.monitor.refused.add("refused")
    vm.monitor.clung.add("clung")
    with pytest.raises(HypervisorError, match="unplug refused: the guest refused: DEVICE_UNPLUG_GUEST_ERROR"):
        await vm.hotplug.remove("refused")
    with pytest.raises(HypervisorError, match=r"unplug clung: the guest did not let go of it within 0.01 s"):
        await vm.hotplug.remove("clung", timeout=0.01)


async def test_discarding_returns_what_went_wrong_and_takes_a_dead_vm_for_success(vm: FakeVm):
    await vm.hotplug.add("virtio-blk-pci", "disk1", {})
    vm.monitor.refused.add("disk1")
    assert "the guest refused" in str(await vm.hotplug.discard("disk1"))
    vm.die()
    assert await vm.hotplug.discard("disk1") is None
    with pytest.raises(VmGoneError):
        await vm.hotplug.remove("disk1")
