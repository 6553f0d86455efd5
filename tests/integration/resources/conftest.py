"""Fixtures of the resource tests: the bed, and the VM that a module's tests share."""

from __future__ import annotations

from tests.harness.fixtures import bed, bed_keeper, cri, ctr, nothing_left
from tests.integration.system.conftest import anyio_backend, vm, vm_keeper

__all__ = ["anyio_backend", "bed", "bed_keeper", "cri", "ctr", "nothing_left", "vm", "vm_keeper"]
