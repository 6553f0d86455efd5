"""QEMU obeys the contract of a VM, on both event loops, and gives everything back."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hypervisor.qemu import QemuVm
from tests.fakes.vm_contract import PATIENCE, Subject, VmContract
from tests.integration.hypervisor.conftest import MakeSpec

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def subject(make_spec: MakeSpec, run_dir: Path) -> AsyncIterator[Subject]:
    before = open_files()
    vm = QemuVm(make_spec())
    yield Subject(vm, lambda: os.kill(vm.pid, signal.SIGKILL))
    vm.kill()
    with anyio.fail_after(PATIENCE):
        await vm.wait()
    assert open_files() == before
    assert list(run_dir.iterdir()) == []


def open_files() -> list[str]:
    """What this process has open, by kind and name; sockets and pipes by kind only."""
    return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _open(fd))


def _open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


class TestQemuVm(VmContract):
    pass
