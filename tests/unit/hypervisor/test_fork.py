"""A child that is a copy of this process: its own descriptors, its own signals, its own end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from hypervisor.errors import HypervisorError
from hypervisor.fork import fork
from hypervisor.process import ChildProcess
from tests.harness import processes

pytestmark = pytest.mark.anyio
PATIENCE = 20.0


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def end(child: ChildProcess) -> int:
    with anyio.fail_after(PATIENCE):
        return await child.wait()


def forever() -> None:
    while True:
        time.sleep(PATIENCE)


def open_descriptors() -> list[int]:
    """Without the one that the listing itself needs, which is closed by then."""
    return sorted(int(name) for name in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{name}").exists())


def told(fd: int) -> None:
    os.write(fd, str(open_descriptors()).encode())


async def test_it_has_the_descriptors_it_is_given_and_no_others():
    read_end, write_end = os.pipe()

    child = fork(lambda: told(write_end), name="worker", fds=(write_end,))
    os.close(write_end)

    assert await end(child) == 0
    assert os.read(read_end, 100).decode() == str([0, 1, 2, write_end])
    os.close(read_end)


async def test_why_it_failed_is_kept():
    def work() -> None:
        raise ValueError("no such thing")

    child = fork(work, name="worker")
    assert await end(child) == 1
    assert child.stderr_tail.strip() == "ValueError: no such thing"


async def test_it_can_be_killed_and_stopped_by_its_name():
    child = fork(forever, name="kata-worker")
    with anyio.fail_after(PATIENCE):
        while Path(f"/proc/{child.pid}/cmdline").read_bytes().rstrip(b"\0") != b"kata-worker":
            await anyio.sleep(0.01)
    assert os.getpgid(child.pid) == child.pid
    child.kill()
    assert await end(child) == -signal.SIGKILL


async def test_a_signal_that_the_parent_handles_ends_it():
    previous = signal.signal(signal.SIGUSR1, lambda *_: pytest.fail("handled in the parent"))
    try:
        read_end, write_end = os.pipe()

        def work() -> None:
            os.write(write_end, b"x")
            forever()

        child = fork(work, name="worker", fds=(write_end,))
        assert os.read(read_end, 1) == b"x"
        os.kill(child.pid, signal.SIGUSR1)
        assert await end(child) == -signal.SIGUSR1
        os.close(read_end)
        os.close(write_end)
    finally:
        signal.signal(signal.SIGUSR1, previous)


async def test_one_that_can_not_be_watched_is_not_left(monkeypatch: pytest.MonkeyPatch):
    forked = []

    def refused(pid: int) -> int:
        forked.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refused)
    with pytest.raises(HypervisorError, match="can't fork worker: Too many open files"):
        fork(forever, name="worker")
    assert not processes.is_alive(forked[0])


_PARENT = """
import asyncio, time
from hypervisor.errors import HypervisorError
from hypervisor.fork import fork

async def main():
    child = fork(lambda: time.sleep(600), name="kata-worker")
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_it_dies_with_its_parent():
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, cwd=Path.cwd()) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    with anyio.fail_after(PATIENCE):
        while processes.is_alive(pid):
            await anyio.sleep(0.01)
