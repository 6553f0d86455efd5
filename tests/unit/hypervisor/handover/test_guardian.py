"""Contract: a guarded process outlives whoever started it, but not its last owner or its guardian."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hypervisor.errors import HypervisorError
from hypervisor.handover.guardian import ANSWER, FIRST, LIFELINE, Guarded, launch
from hypervisor.handover.process import GuardedProcess
from hypervisor.tail import TailReader

pytestmark = pytest.mark.anyio
PATIENCE = 10.0


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
def guarded(tmp_path: Path):
    """Starts a shell script under a guardian; what it started is reaped at the end."""
    started: list[Guarded] = []

    def start(script: str, fds: dict[int, int] | None = None) -> Guarded:
        started.append(launch(["/bin/sh", "-c", script], fds or {}, tmp_path))
        return started[-1]

    yield start
    for one in started:
        _signal(one.guardian)
        os.waitpid(one.guardian, 0)


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def watched(one: Guarded) -> GuardedProcess:
    return GuardedProcess(one.pid, one.pidfd, one.lifeline, one.answer, TailReader(one.stderr))


async def end(process: GuardedProcess) -> int:
    with anyio.fail_after(PATIENCE):
        return await process.wait()


Start = Callable[..., Guarded]


@pytest.mark.parametrize(("script", "expected"), [("exit 3", 3), ("kill -TERM $$", -15), ("exit 0", 0)])
async def test_its_exit_status_is_told(guarded: Start, script: str, expected: int):
    assert await end(watched(guarded(script))) == expected


async def test_what_it_said_last_is_kept(guarded: Start):
    process = watched(guarded("echo out; echo err >&2"))
    await end(process)
    assert sorted(process.stderr_tail.split()) == ["err", "out"]


async def test_a_kill_is_told_as_one(guarded: Start):
    process = watched(guarded("sleep 100"))
    process.kill()
    assert await end(process) == -signal.SIGKILL
    process.kill()


async def test_it_dies_with_its_last_owner(guarded: Start):
    one = guarded("exec sleep 100")
    second = os.dup(one.lifeline)
    os.close(one.lifeline)
    for fd in (one.answer, one.stderr):
        os.close(fd)
    assert not _ended(one.pidfd)
    os.close(second)
    with anyio.fail_after(PATIENCE):
        while not _ended(one.pidfd):
            await anyio.lowlevel.checkpoint()
    os.close(one.pidfd)


def _ended(pidfd: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return True
    return bool(select.select([pidfd], [], [], 0)[0])


async def test_it_dies_with_its_guardian_as_if_killed(guarded: Start):
    one = guarded("exec sleep 100")
    process = watched(one)
    os.kill(one.guardian, signal.SIGKILL)
    assert await end(process) == -signal.SIGKILL


async def test_it_has_what_it_is_to_inherit_and_nothing_of_its_guardians(guarded: Start):
    read_end, write_end = os.pipe()
    one = guarded("echo up >&5; exec sleep 100", {FIRST: write_end})
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        assert pipe.readline() == b"up\n"
        found = {int(entry.name) for entry in Path(f"/proc/{one.pid}/fd").iterdir()}
        process = watched(one)
        process.kill()
        # Its guardian has closed its copy: the end of the pipe comes with the end of the process alone.
        assert pipe.read() == b""
    assert FIRST in found
    assert not found & {LIFELINE, ANSWER}
    await end(process)


async def test_a_program_that_is_missing_is_told_before_anything_is_started(guarded: Start, tmp_path: Path):
    with pytest.raises(HypervisorError, match="no such program"):
        launch([str(tmp_path / "qemu")], {}, tmp_path)


async def test_a_guardian_that_can_not_start_it_is_an_error_with_its_words(tmp_path: Path):
    with pytest.raises(HypervisorError, match="its guardian has ended"):
        launch(["/bin/sh"], {}, tmp_path / "missing")


async def test_no_more_is_inherited_than_there_are_numbers_for(tmp_path: Path):
    with pytest.raises(HypervisorError, match="more than 5"):
        launch(["/bin/sh"], {10: 0}, tmp_path)


async def test_a_released_process_is_watched_by_whoever_has_it_next(guarded: Start):
    first = watched(guarded("echo early >&2; exec sleep 100"))
    pidfd, lifeline, answer, stderr = first.release()
    second = GuardedProcess(first.pid, pidfd, lifeline, answer, TailReader(stderr))
    second.kill()
    assert await end(second) == -signal.SIGKILL
    assert first.returncode is None
    first.kill()
