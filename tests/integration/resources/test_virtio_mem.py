"""With `enable_virtio_mem` memory grows and shrinks to the MiB, and freed pages are reported to the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.harness.runtimes import KATA
from tests.integration.resources.guest_size import MIB, Size, look, update, wait_for
from tests.integration.system.vm import Vm

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SETTINGS = "[hypervisor.qemu]\nenable_virtio_mem = true\nreclaim_guest_freed_memory = true\n"


@pytest.fixture
def memory_vm(bed: Bed, tmp_path: Path, nothing_left: None) -> Iterator[Vm]:
    """A VM of its own, whose only container may use 64 MiB."""
    configuration = tmp_path / "configuration.toml"
    configuration.write_text(bed.configuration.read_text())
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "50-memory.toml").write_text(SETTINGS)
    vm = Vm(bed, "virtiomem")
    vm.ctr = Ctr(bed.socket, KATA, "default", configuration)
    vm.ctr.run_detached(vm.id, "sleep", "3600", options=("--null-io", "--memory-limit", str(64 * MIB)))
    yield vm
    vm.ctr.remove(vm.id)


async def test_memory_follows_the_limit_up_and_down(bed: Bed, memory_vm: Vm) -> None:
    before = look(memory_vm, memory_vm.id)

    await update(memory_vm, memory_vm.id, {"memory": {"limit": 320 * MIB}})
    wait_for(memory_vm, memory_vm.id, Size(before.cpus, before.memory_mib + 256))
    await update(memory_vm, memory_vm.id, {"memory": {"limit": 64 * MIB}})
    wait_for(memory_vm, memory_vm.id, before)

    (qemu,) = processes.find(rf"guest={memory_vm.id},.*free-page-reporting=on", bed.containerd.processes())
    assert "virtio-mem-pci" in qemu.command
