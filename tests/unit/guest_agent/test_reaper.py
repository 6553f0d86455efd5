"""Every child's end is known: watched ones, unknown ones within a window, orphans."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from guest.agent import spawn
from guest.agent.reaper import exit_status

pytestmark = pytest.mark.anyio


def shell(script: str, stdout: int | None = None) -> int:
    return spawn.start(["/bin/sh", "-c", script], (None, stdout, None))


async def test_the_exit_code_of_a_watched_child_is_told(reaper):
    assert await asyncio.wait_for(reaper.watch(shell("exit 7")), 10) == 7


async def test_a_killed_child_has_128_plus_the_signal(reaper):
    assert await asyncio.wait_for(reaper.watch(shell("kill -9 $$")), 10) == 128 + signal.SIGKILL


async def test_all_who_ask_get_the_same_answer(reaper):
    pid = shell("exit 3")

    first, second = reaper.watch(pid), reaper.watch(pid)

    assert await asyncio.wait_for(asyncio.gather(first, second), 10) == [3, 3]


async def test_a_child_that_ended_before_its_pid_was_known_is_claimed_from_the_window(reaper):
    with reaper.window() as window:
        early, late = shell("exit 5"), shell("exit 6")
        await asyncio.wait_for(reaper.watch(late), 10)
        while os.path.exists(f"/proc/{early}"):
            await asyncio.sleep(0)

        assert await asyncio.wait_for(window.claim(early), 10) == 5


async def test_a_child_that_still_runs_is_claimed_too(reaper):
    reader, writer = os.pipe()
    with reaper.window() as window:
        pid = spawn.start(["/bin/sh", "-c", "read x; exit 9"], (reader, None, None))
        ended = window.claim(pid)
    assert not ended.done()

    os.write(writer, b"\n")

    assert await asyncio.wait_for(ended, 10) == 9
    os.close(reader)
    os.close(writer)


async def test_an_orphan_is_inherited_and_reaped(reaper):
    gate, opener = os.pipe()
    output, writer = os.pipe()
    script = "sh -c 'echo $$; read x; exit 4' <&3 & exit 0"
    parent = spawn.start(["/bin/sh", "-c", f"exec 3<&0; {script}"], (gate, writer, None))
    await asyncio.wait_for(reaper.watch(parent), 10)
    orphan = reaper.watch(int(os.read(output, 20)))
    assert not orphan.done()

    os.write(opener, b"\n")

    assert await asyncio.wait_for(orphan, 10) == 4
    for fd in (gate, opener, output, writer):
        os.close(fd)


async def test_many_children_ending_at_once_are_all_reaped(reaper):
    pids = [shell("exit 0") for _ in range(40)]

    await asyncio.wait_for(asyncio.gather(*map(reaper.watch, pids)), 30)

    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_statuses_are_the_shells():
    assert exit_status(os.CLD_EXITED, 1) == 1
    assert exit_status(os.CLD_KILLED, 15) == 143
    assert exit_status(os.CLD_DUMPED, 11) == 139
