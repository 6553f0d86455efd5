"""What a VM can't take on: one of static size, and one without room to plug memory in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.harness.runtimes import KATA
from tests.integration.resources.guest_size import MIB, limits, look, update
from tests.integration.system.vm import Vm

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


def _boot(bed: Bed, tmp_path: Path, name: str, settings: str) -> Vm:
    configuration = tmp_path / "configuration.toml"
    configuration.write_text(bed.configuration.read_text())
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "50-small.toml").write_text(settings)
    vm = Vm(bed, name)
    vm.ctr = Ctr(bed.socket, KATA, "default", configuration)
    vm.boot()
    return vm


@pytest.fixture
def static_vm(bed: Bed, tmp_path: Path, nothing_left: None) -> Iterator[Vm]:
    """A VM that keeps the size it started with."""
    vm = _boot(bed, tmp_path, "staticvm", "[runtime]\nstatic_sandbox_resource_mgmt = true\n")
    yield vm
    vm.remove()


@pytest.fixture
def one_slot_vm(bed: Bed, tmp_path: Path, nothing_left: None) -> Iterator[Vm]:
    """A VM into which memory can be plugged once."""
    vm = _boot(bed, tmp_path, "oneslot", "[hypervisor.qemu]\nmemory_slots = 1\n")
    yield vm
    vm.remove()


async def test_a_static_vm_keeps_its_size_and_limits_hold_in_the_guest(static_vm: Vm) -> None:
    before = look(static_vm, static_vm.id)

    with static_vm.container(linux={"resources": limits(cpus=1, memory_mib=256)}) as container:
        assert look(static_vm, static_vm.id) == before
        await update(static_vm, container, limits(cpus=0.5, memory_mib=512))
        assert look(static_vm, static_vm.id) == before
        said = static_vm.exec(container, "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max").check().text
        assert said.split() == [str(512 * MIB), "50000", "100000"]


async def test_without_a_slot_for_memory_a_call_fails_and_the_rest_goes_on(one_slot_vm: Vm) -> None:
    vm = one_slot_vm
    with vm.container(linux={"resources": limits(memory_mib=128)}) as first:
        before = look(vm, vm.id)

        with pytest.raises(GRPCError, match="no free memory slot for 128 MiB") as caught:
            await update(vm, first, limits(memory_mib=256))
        refused = vm.run_spec("true", linux={"resources": limits(memory_mib=128)})

        assert caught.value.status is Status.UNAVAILABLE
        assert refused.returncode != 0
        assert "no free memory slot for 128 MiB" in refused.error_text
        assert look(vm, vm.id) == before
        assert vm.exec(first, "cat", "/sys/fs/cgroup/memory.max").check().text == str(128 * MIB)
