"""Children of the daemon: watched, bounded, reaped at once, and gone when the daemon is."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hypervisor import process
from hypervisor.errors import HypervisorError
from hypervisor.process import ChildProcess, check_executable, spawn

pytestmark = pytest.mark.anyio
PATIENCE = 5.0
SH = "/bin/sh"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def end(child: ChildProcess) -> int:
    with anyio.fail_after(PATIENCE):
        return await child.wait()


async def test_its_status_and_both_its_outputs_are_kept():
    child = spawn([SH, "-c", "echo out; echo err >&2; exit 3"])
    assert await end(child) == 3
    assert sorted(child.stderr_tail.split()) == ["err", "out"]


async def test_a_signal_is_a_negative_number():
    child = spawn([SH, "-c", "kill -TERM $$"])
    assert await end(child) == -signal.SIGTERM


async def test_all_that_it_writes_before_its_end_is_kept():
    child = spawn([SH, "-c", "head -c 60000 /dev/zero | tr '\\0' x; echo; echo last"])
    await end(child)
    assert child.stderr_tail.endswith("last\n")


async def test_it_is_reaped_without_being_waited_for():
    child = spawn([SH, "-c", "exit 0"])
    with anyio.fail_after(PATIENCE):
        while child.returncode is None:
            await anyio.lowlevel.checkpoint()
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


async def test_who_asks_to_be_told_is_told_once_also_afterwards():
    child = spawn([SH, "-c", "exit 0"])
    told: list[str] = []
    child.on_exit(lambda: told.append("early"))
    await end(child)
    child.on_exit(lambda: told.append("late"))
    assert told == ["early", "late"]


async def test_kill_is_idempotent_and_harmless_afterwards():
    child = spawn([SH, "-c", "sleep 60"])
    child.kill()
    child.kill()
    assert await end(child) == -signal.SIGKILL
    child.kill()


async def test_a_child_that_somebody_else_reaped_has_ended_all_the_same():
    child = spawn([SH, "-c", "exit 0"])
    os.waitpid(child.pid, 0)
    assert await end(child) == process.UNKNOWN_STATUS


async def test_the_pid_is_told_first_and_an_error_of_who_is_told_leaves_no_child():
    pids: list[int] = []

    def refuse(pid: int) -> None:
        pids.append(pid)
        raise OSError("journal full")

    with pytest.raises(OSError, match="journal full"):
        spawn([SH, "-c", "sleep 60"], on_spawn=refuse)
    assert not Path(f"/proc/{pids[0]}").exists()


async def test_it_inherits_the_descriptors_it_is_given_and_no_other(tmp_path: Path):
    read_end, write_end = os.pipe()
    other = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(other, True)
    child = spawn([SH, "-c", f"echo through >/proc/self/fd/{write_end}; ls -l /proc/self/fd"], fds=[write_end])
    os.close(write_end)
    await end(child)
    assert os.read(read_end, 100) == b"through\n"
    assert f" {other} -> " not in child.stderr_tail
    os.close(read_end)
    os.close(other)


async def test_it_runs_where_it_is_told_with_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET", "leak")
    child = spawn([SH, "-c", "pwd; echo [$SECRET]"], cwd=tmp_path)
    await end(child)
    assert child.stderr_tail.split() == [str(tmp_path), "[]"]


async def test_its_limit_of_open_files_is_raised_to_the_hard_one():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    child = spawn([SH, "-c", "read line; exec sleep 60"], raise_nofile=True)
    assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    child.kill()
    await end(child)


async def test_lines_are_logged_as_they_come():
    lines: list[str] = []
    child = spawn([SH, "-c", "echo one; echo two"], on_line=lines.append)
    await end(child)
    assert lines == ["one", "two"]


async def test_its_own_children_go_with_it_stopped_ones_too():
    child = spawn([SH, "-c", "sleep 60 & kill -STOP $!; echo $!"])
    await end(child)
    try:
        grandchild = os.pidfd_open(int(child.stderr_tail))
    except ProcessLookupError:
        return
    with anyio.fail_after(PATIENCE):
        await anyio.wait_readable(grandchild)
    os.close(grandchild)


async def test_it_dies_with_its_parent():
    script = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[1])\n"
        "from hypervisor.process import spawn\n"
        "async def main():\n"
        "    child = spawn(['/bin/sh', '-c', 'echo ready; sleep 60'],\n"
        "                  on_line=lambda line: print(child.pid, flush=True))\n"
        "    await child.wait()\n"
        "asyncio.run(main())"
    )
    root = str(Path(process.__file__).parents[1])
    parent = subprocess.Popen([sys.executable, "-c", script, root], stdout=subprocess.PIPE)
    assert parent.stdout
    pidfd = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    with anyio.fail_after(PATIENCE):
        await anyio.wait_readable(pidfd)
    os.close(pidfd)


@pytest.mark.parametrize(
    ("name", "content", "mode", "message"),
    [
        ("missing", None, 0, "no such program; install it"),
        ("plain", "#!/bin/sh\n", 0o644, "not executable"),
        ("shell-fodder", "touch /tmp/x\n", 0o755, "neither an ELF program nor a script"),
    ],
)
def test_what_is_no_program_is_named(tmp_path: Path, name: str, content: str | None, mode: int, message: str):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(HypervisorError, match=f"{path}: {message}"):
        check_executable(path)


def test_a_program_is_never_looked_up():
    with pytest.raises(HypervisorError, match="must be absolute"):
        check_executable(Path("qemu"))


async def test_a_host_without_setpriv_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(process.ENVIRONMENT, "PATH", "/nonexistent")
    with pytest.raises(HypervisorError, match="install util-linux"):
        spawn([SH])


async def test_a_directory_that_is_gone_is_told(tmp_path: Path):
    with pytest.raises(HypervisorError, match=r"can't start /bin/sh: .*No such file or directory: .*/gone"):
        spawn([SH], cwd=tmp_path / "gone")
