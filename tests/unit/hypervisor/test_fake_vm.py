"""The fake VM obeys the contract of a VM, and misbehaves as it is told."""

from __future__ import annotations

import anyio
import pytest

from hypervisor.errors import HypervisorError
from tests.fakes.vm import FakeVm
from tests.fakes.vm_contract import Subject, VmContract

pytestmark = pytest.mark.anyio


class TestFakeVm(VmContract):
    @pytest.fixture
    def subject(self) -> Subject:
        vm = FakeVm()
        return Subject(vm, vm.die)


async def test_it_dies_with_the_reason_it_is_given():
    vm = FakeVm()
    await vm.start(1)
    vm.die("QEMU exited with status 1: no disk", returncode=1)
    assert (await vm.wait()).reason == "QEMU exited with status 1: no disk"
    assert (await vm.wait()).returncode == 1


async def test_it_hangs_on_shutdown_until_it_is_killed():
    vm = FakeVm()
    vm.hangs_on_shutdown = True
    await vm.start(1)
    await vm.shutdown(0.01)
    assert (await vm.wait()).signal == 9


async def test_it_fails_to_start_as_told():
    vm = FakeVm()
    vm.start_error = HypervisorError("QEMU exited with status 1")
    with pytest.raises(HypervisorError, match="status 1"):
        await vm.start(1)
    assert (await vm.wait()).returncode == 1


async def test_a_start_that_hangs_ends_at_its_deadline():
    vm = FakeVm()
    vm.start_gate = anyio.Event()
    with pytest.raises(HypervisorError, match=r"within 0\.01 s"):
        await vm.start(0.01)
