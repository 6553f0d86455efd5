"""The host's virtiofsd: it is ready at once, it is told of when it dies, and it leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from hypervisor.devices import SharedFs
from hypervisor.errors import HypervisorError
from hypervisor.qemu import QemuVm
from hypervisor.virtiofsd import Virtiofsd, VirtiofsdSpec, detect_flavour
from tests.fakes.vm_contract import PATIENCE
from tests.integration.hypervisor.conftest import MakeSpec

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def spec(virtiofsd_binary: Path, run_dir: Path, tmp_path: Path) -> VirtiofsdSpec:
    shared = tmp_path / r"shared,with\ugly name"
    shared.mkdir()
    return VirtiofsdSpec(binary=virtiofsd_binary, shared_dir=shared, socket_path=run_dir / "fs")


@pytest.fixture
async def daemon(spec: VirtiofsdSpec) -> AsyncIterator[Virtiofsd]:
    daemon = Virtiofsd(spec)
    await daemon.start(PATIENCE)
    yield daemon
    daemon.kill()
    with anyio.fail_after(PATIENCE):
        await daemon.wait()


def shared_fs(spec: VirtiofsdSpec) -> SharedFs:
    """The device that connects to it."""
    return SharedFs(spec.socket_path, "kataShared", 1024)


async def test_a_vm_connects_at_once(daemon: Virtiofsd, spec: VirtiofsdSpec, make_spec: MakeSpec):
    vm = QemuVm(make_spec(shared_fs=shared_fs(spec)))
    await vm.start(PATIENCE)
    assert await vm.status() == "running"
    await vm.shutdown(PATIENCE)


async def test_it_ends_with_its_vm_and_removes_its_socket(daemon: Virtiofsd, spec: VirtiofsdSpec, make_spec: MakeSpec):
    vm = QemuVm(make_spec(shared_fs=shared_fs(spec)))
    await vm.start(PATIENCE)
    vm.kill()
    with anyio.fail_after(PATIENCE):
        await vm.wait()
        assert (await daemon.wait()).startswith("virtiofsd exited with status ")
    assert not spec.socket_path.exists()


async def test_its_death_is_told_with_its_signal(daemon: Virtiofsd):
    os.kill(daemon.pid, signal.SIGKILL)
    with anyio.fail_after(PATIENCE):
        assert (await daemon.wait()).startswith("virtiofsd was killed by SIGKILL")


async def test_no_process_of_it_outlives_the_one_we_know(daemon: Virtiofsd, make_spec: MakeSpec, spec: VirtiofsdSpec):
    vm = QemuVm(make_spec(shared_fs=shared_fs(spec)))
    await vm.start(PATIENCE)
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    pidfds = [os.pidfd_open(int(child)) for child in children]
    daemon.kill()
    with anyio.fail_after(PATIENCE):
        for pidfd in pidfds:
            await anyio.wait_readable(pidfd)
            os.close(pidfd)
    await vm.shutdown(PATIENCE)


async def test_a_dead_one_resets_who_waits_for_it(spec: VirtiofsdSpec):
    daemon = Virtiofsd(spec)
    await daemon.start(PATIENCE)
    os.kill(daemon.pid, signal.SIGSTOP)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(spec.socket_path))
        daemon.kill()
        with anyio.fail_after(PATIENCE):
            await daemon.wait()
            await anyio.wait_readable(client)
        # A reset if the connection was still in its queue, the end of the stream if it had been accepted.
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""


async def test_a_bad_option_is_told_in_its_own_words(spec: VirtiofsdSpec):
    daemon = Virtiofsd(VirtiofsdSpec(spec.binary, spec.shared_dir, spec.socket_path, extra_args=("--no-such-option",)))
    await daemon.start(PATIENCE)
    with anyio.fail_after(PATIENCE):
        reason = await daemon.wait()
    assert reason.startswith("virtiofsd exited with status 1: ")
    assert "no-such-option" in reason


async def test_a_missing_directory_is_named(spec: VirtiofsdSpec, tmp_path: Path):
    daemon = Virtiofsd(VirtiofsdSpec(spec.binary, tmp_path / "gone", spec.socket_path))
    with pytest.raises(HypervisorError, match=r"shared directory .*/gone does not exist"):
        await daemon.start(PATIENCE)


async def test_it_may_open_as_many_files_as_the_hard_limit_allows(daemon: Virtiofsd):
    line = next(
        line
        for line in Path(f"/proc/{daemon.pid}/limits").read_text().splitlines()
        if line.startswith("Max open files")
    )
    soft, hard = line.split()[3:5]
    assert soft == hard


async def test_its_flavour_is_known_without_running_it(virtiofsd_binary: Path):
    expected = "c" if "qemu" in virtiofsd_binary.parts else "rust"
    assert await detect_flavour(virtiofsd_binary, timeout=0) == expected
