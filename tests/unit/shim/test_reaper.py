"""Orphans are reaped, other people's children are not."""

from __future__ import annotations

import os

import anyio
import anyio.lowlevel
import pytest

from shim.reaper import reap_orphans, zombie_children
from tests.harness.waiting import eventually_async

pytestmark = pytest.mark.anyio


def _zombie() -> int:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


async def test_a_zombie_nobody_waits_for_is_reaped() -> None:
    pid = _zombie()
    assert pid in zombie_children()

    async def gone() -> bool:
        return pid not in zombie_children()

    async with anyio.create_task_group() as group:
        group.start_soon(reap_orphans, 0.02)
        await eventually_async(gone, "the zombie is reaped")
        group.cancel_scope.cancel()


async def test_a_zombie_is_left_to_its_owner_for_a_period() -> None:
    pid = _zombie()

    async with anyio.create_task_group() as group:
        group.start_soon(reap_orphans, 30)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()

    assert os.waitpid(pid, 0) == (pid, 0)
