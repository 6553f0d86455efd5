"""Children start with clean signals and only the descriptors they are given, and end in time."""

from __future__ import annotations

import asyncio
import os

import pytest

from guest.agent import spawn
from guest.agent.errors import DeadlineError, InternalError

pytestmark = pytest.mark.anyio


async def output_of(reaper, script: str) -> str:
    reader, writer = os.pipe()
    pid = spawn.start(["/bin/sh", "-c", script], (None, writer, None))
    os.close(writer)
    await asyncio.wait_for(reaper.watch(pid), 10)
    with open(reader) as file:
        return file.read()


async def test_a_child_does_not_inherit_ignored_signals(reaper):
    ignored = await output_of(reaper, "grep SigIgn /proc/self/status")

    sigpipe = 1 << 12
    assert not int(ignored.split()[1], 16) & sigpipe


async def test_a_child_gets_no_other_descriptors(reaper):
    extra = os.open(os.devnull, os.O_RDONLY)
    os.dup2(extra, 200, inheritable=False)

    listed = (await output_of(reaper, "ls /proc/self/fd")).split()

    os.close(extra)
    os.close(200)
    assert "0" in listed
    assert "200" not in listed


async def test_a_child_has_a_session_of_its_own(reaper):
    text = await output_of(reaper, "cut -d' ' -f1,6 /proc/$$/stat")

    pid, session = text.split()
    assert pid == session


async def test_a_program_that_overstays_is_killed_and_named(reaper):
    with pytest.raises(DeadlineError, match=r"sleep did not finish within 0\.05 s"):
        await spawn.run(["/bin/sleep", "1000"], reaper, 0.05)


async def test_a_program_whose_caller_gives_up_is_killed(reaper):
    pid = spawn.start(["/bin/sleep", "1000"])
    task = asyncio.create_task(spawn.finished(pid, "sleep", reaper, 100))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.wait_for(reaper.watch(pid), 10) == 137


async def test_a_program_that_is_not_there_is_an_error_that_names_it(reaper):
    with pytest.raises(InternalError, match="cannot run /nonexistent"):
        spawn.start(["/nonexistent"])
