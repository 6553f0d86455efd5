"""QEMU obeys the contract of a VM, on both event loops, and gives everything back however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hypervisor.errors import HypervisorError
from hypervisor.qemu import QemuVm
from tests.fakes.vm_contract import PATIENCE, Subject, VmContract
from tests.integration.hypervisor.conftest import MakeSpec

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def subject(make_spec: MakeSpec) -> AsyncIterator[Subject]:
    vm = QemuVm(make_spec())
    yield Subject(vm, lambda: os.kill(vm.pid, signal.SIGKILL))
    vm.kill()
    with anyio.fail_after(PATIENCE):
        await vm.wait()


class TestQemuVm(VmContract):
    pass


async def crash(vm: QemuVm) -> None:
    await vm.start(PATIENCE)
    os.kill(vm.pid, signal.SIGKILL)


async def quit_(vm: QemuVm) -> None:
    await vm.start(PATIENCE)
    await vm.shutdown(PATIENCE)


async def cancel(vm: QemuVm) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await vm.start(PATIENCE)


async def refuse(vm: QemuVm) -> None:
    def full(pid: int) -> None:
        raise OSError("journal full")

    vm._on_spawn = full
    with pytest.raises(OSError, match="journal full"):
        await vm.start(PATIENCE)


async def never_greet(vm: QemuVm) -> None:
    with pytest.raises(HypervisorError, match=r"did not answer on its monitor within 0\.001 s"):
        await vm.start(0.001)


@pytest.mark.parametrize("end", [crash, quit_, cancel, refuse, never_greet])
async def test_it_gives_back_every_descriptor_and_file(
    make_spec: MakeSpec, run_dir: Path, end: Callable[[QemuVm], Awaitable[None]]
):
    # The first connection has libuv keep a spare descriptor for the rest of the loop's life.
    await ended(QemuVm(make_spec()), quit_)
    before = open_files()
    await ended(QemuVm(make_spec()), end)
    assert open_files() == before
    assert list(run_dir.iterdir()) == []


async def ended(vm: QemuVm, end: Callable[[QemuVm], Awaitable[None]]) -> None:
    with anyio.fail_after(PATIENCE):
        await end(vm)
        await vm.wait()
        # uvloop closes a socket in the next turn of the loop.
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()


def open_files() -> set[str]:
    """What this process has open, by number and name."""
    links = ((fd, f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
    return {f"{fd} {os.readlink(link)}" for fd, link in links if os.path.lexists(link)}


async def test_its_journal_knows_the_pid_before_anything_is_waited_for(make_spec: MakeSpec):
    pids: list[int] = []
    vm = QemuVm(make_spec(), on_spawn=pids.append)
    await vm.start(PATIENCE)
    assert pids == [vm.pid]
    assert Path(f"/proc/{vm.pid}/cmdline").read_bytes().startswith(b"/usr/bin/qemu-system-x86_64\0")
    await vm.shutdown(PATIENCE)
