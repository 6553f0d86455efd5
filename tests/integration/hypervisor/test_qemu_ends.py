"""However a VM fails or ends, one line names the cause."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from hypervisor.devices import SharedFs
from hypervisor.errors import HypervisorError
from hypervisor.qemu import QemuVm
from hypervisor.vm import VmExit
from tests.fakes.vm_contract import PATIENCE
from tests.integration.hypervisor.conftest import MakeSpec

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def failure(vm: QemuVm) -> str:
    with anyio.fail_after(PATIENCE), pytest.raises(HypervisorError) as caught:
        await vm.start(PATIENCE)
    message = str(caught.value)
    assert "\n" not in message
    return message


async def end_of(vm: QemuVm) -> VmExit:
    with anyio.fail_after(PATIENCE):
        await vm.start(PATIENCE)
        return await vm.wait()


async def test_a_missing_qemu_is_named(make_spec: MakeSpec):
    spec = make_spec(qemu=Path("/nonexistent/qemu"))
    assert await failure(QemuVm(spec)) == (
        "/nonexistent/qemu: no such program; install it or correct the configuration"
    )


async def test_a_qemu_that_may_not_be_executed_is_named(make_spec: MakeSpec, tmp_path: Path):
    program = tmp_path / "qemu"
    program.write_bytes(b"\x7fELF")
    assert await failure(QemuVm(make_spec(qemu=program))) == f"{program}: not executable"


async def test_a_qemu_of_another_machine_tells_the_kernel_s_refusal(make_spec: MakeSpec, tmp_path: Path):
    program = tmp_path / "qemu"
    program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\2\0\xb7\0\1\0\0\0" + bytes(64))
    program.chmod(0o755)
    message = await failure(QemuVm(make_spec(qemu=program)))
    assert message.startswith("QEMU exited with status 12")
    assert str(program) in message


async def test_a_qemu_that_is_no_program_never_reaches_a_shell(make_spec: MakeSpec, tmp_path: Path):
    program = tmp_path / "qemu"
    program.write_text(f"touch {tmp_path}/run/executed\n")
    program.chmod(0o755)
    assert await failure(QemuVm(make_spec(qemu=program))) == f"{program}: neither an ELF program nor a script"


async def test_a_bad_option_is_told_in_qemu_s_words(make_spec: MakeSpec):
    message = await failure(QemuVm(make_spec(cpu_features="nonsense=on")))
    assert message.startswith("QEMU exited with status 1: ")
    assert "'max-x86_64-cpu.nonsense' not found" in message


async def test_a_bad_kernel_is_named_before_qemu_runs(make_spec: MakeSpec, tmp_path: Path):
    spec = make_spec()
    spec.kernel.write_bytes(b"no kernel at all" * 100)
    assert await failure(QemuVm(spec)) == f"kernel {spec.kernel} is neither a bzImage nor an ELF image"
    missing = replace(spec, kernel=tmp_path / "gone")
    assert await failure(QemuVm(missing)) == f"kernel {tmp_path / 'gone'}: No such file or directory"


@pytest.mark.parametrize("what", ["initrd", "image"])
async def test_a_missing_userland_is_named(make_spec: MakeSpec, what: str):
    message = await failure(QemuVm(make_spec(**{what: Path("/nonexistent/file")})))
    assert message == f"{what} /nonexistent/file: No such file or directory"


async def test_a_kernel_qemu_refuses_is_told_in_qemu_s_words(make_spec: MakeSpec):
    spec = make_spec()
    spec.kernel.write_bytes(b"\x7fELF" + bytes(600))
    message = await failure(QemuVm(spec))
    assert message.startswith("QEMU exited with status 1: ")
    assert "kernel" in message


async def test_a_file_server_that_is_not_there_is_named(make_spec: MakeSpec, tmp_path: Path):
    socket = tmp_path / "no-virtiofsd"
    message = await failure(QemuVm(make_spec(shared_fs=SharedFs(socket, "kataShared", 1024))))
    assert str(socket) in message
    assert "No such file or directory" in message


async def test_a_qemu_that_is_silent_is_ended_at_the_deadline(make_spec: MakeSpec, tmp_path: Path):
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    vm = QemuVm(make_spec(qemu=program))
    with pytest.raises(HypervisorError, match=r"QEMU did not answer on its monitor within 0\.2 s"):
        await vm.start(0.2)
    assert (await vm.wait()).signal == signal.SIGKILL


async def test_a_panic_is_told_in_the_kernel_s_words(make_spec: MakeSpec):
    text = b"[    1.1] Run /init as init process\n[    1.2] Kernel panic - not syncing: no init\n[ 1.3] ---[ end ]---\n"
    end = await end_of(QemuVm(make_spec(text, "restart")))
    assert (end.returncode, end.reason) == (0, "the guest restarted: Kernel panic - not syncing: no init")


async def test_a_panic_that_pvpanic_tells_is_one(make_spec: MakeSpec):
    end = await end_of(QemuVm(make_spec(b"so long\n", "panic")))
    assert end.reason == "the guest's kernel panicked (last on its console: so long)"


async def test_a_power_off_is_told(make_spec: MakeSpec):
    assert (await end_of(QemuVm(make_spec(action="poweroff")))).reason == "the guest powered off"


async def test_a_terminated_qemu_is_told(make_spec: MakeSpec):
    vm = QemuVm(make_spec())
    await vm.start(PATIENCE)
    os.kill(vm.pid, signal.SIGTERM)
    with anyio.fail_after(PATIENCE):
        assert (await vm.wait()).reason.startswith("QEMU was told to end by a signal")


async def test_shutdown_of_a_qemu_that_hangs_is_a_kill_at_the_deadline(make_spec: MakeSpec):
    vm = QemuVm(make_spec())
    await vm.start(PATIENCE)
    os.kill(vm.pid, signal.SIGSTOP)
    with anyio.fail_after(PATIENCE):
        await vm.shutdown(0.1)
        assert (await vm.wait()).signal == signal.SIGKILL


async def test_a_chatty_guest_neither_grows_us_nor_stops(make_spec: MakeSpec):
    vm = QemuVm(make_spec(b"x" * 63 + b"\n", "chatter"))
    await vm.start(PATIENCE)
    with anyio.fail_after(PATIENCE):
        while len(vm.diagnostics().console_tail) < 30_000:
            await asyncio.sleep(0.01)
    assert len(vm.diagnostics().console_tail) <= 32 * 1024
    assert await vm.status() == "running"
    await vm.shutdown(PATIENCE)


async def test_the_daemon_s_death_is_qemu_s_death(make_spec: MakeSpec, tmp_path: Path):
    spec = make_spec()
    script = tmp_path / "daemon.py"
    script.write_text(
        "import asyncio, sys\nfrom pathlib import Path\nfrom hypervisor.qemu import QemuVm\n"
        "from hypervisor.vm import VmSpec\n"
        "async def main():\n"
        f"    path = Path({str(tmp_path)!r})\n"
        "    vm = QemuVm(VmSpec('toy', path / 'run', Path('/usr/bin/qemu-system-x86_64'), path / 'kernel', 1, 128,\n"
        "                       'tcg', initrd=path / 'initrd'))\n"
        "    await vm.start(10)\n    print(vm.pid, flush=True)\n    await vm.wait()\n"
        "asyncio.run(main())\n"
    )
    daemon = await anyio.open_process([os.sys.executable, str(script)], env={"PYTHONPATH": os.getcwd()}, stderr=None)
    with anyio.fail_after(PATIENCE):
        assert daemon.stdout
        pid = int(await daemon.stdout.receive())
        pidfd = os.pidfd_open(pid)
        daemon.kill()
        await daemon.wait()
        await anyio.wait_readable(pidfd)
    os.close(pidfd)
    await daemon.aclose()
    (spec.run_dir / "agent").unlink()
