"""Fixtures of the system tests: the bed's clients, and a VM for each module that its tests share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.harness.bed import Bed
from tests.harness.fixtures import BedKeeper, bed, bed_keeper, cri, ctr, nothing_left
from tests.integration.system.vm import Vm

__all__ = ["bed", "bed_keeper", "cri", "ctr", "nothing_left"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One loop for all, so that a fixture may live as long as a module."""
    return "asyncio"


class VmKeeper:
    """Boots a VM when one is wanted, and another if a test has spoiled the bed that the last one was in."""

    def __init__(self, beds: BedKeeper, name: str, make: Callable[[Bed, str], Vm] = Vm) -> None:
        self._beds = beds
        self._name = name
        self._make = make
        self._vm: Vm | None = None

    def vm(self) -> Vm:
        """The VM, with the pod's own container running."""
        bed = self._beds.bed()
        if self._vm is None or self._vm.bed is not bed:
            vm = self._make(bed, self._name)
            vm.boot()
            self._vm = vm
        return self._vm

    def close(self) -> None:
        """Remove it, if its bed is still there."""
        if self._vm is not None and self._vm.bed is self._beds.bed():
            self._vm.remove()


@pytest.fixture(scope="module")
def vm_keeper(bed_keeper: BedKeeper, request: pytest.FixtureRequest) -> Iterator[VmKeeper]:
    """Owner of the module's VM; checks that removing the pod leaves nothing."""
    bed = bed_keeper.bed()
    check = bed.leak_check()
    keeper = VmKeeper(bed_keeper, re.sub(r"\W|test_", "", request.module.__name__.rpartition(".")[2]))
    yield keeper
    keeper.close()
    if bed is bed_keeper.bed():
        check.assert_clean()


@pytest.fixture
def vm(vm_keeper: VmKeeper, request: pytest.FixtureRequest) -> Vm:
    """The module's VM; what the test runs in it must be gone at its end."""
    vm = vm_keeper.vm()
    # Not before: the VM is not the test's to remove.
    request.getfixturevalue("nothing_left")
    return vm
