"""Contract: a node boots so many VMs at a time, in the order in which they came; who is dead is in nobody's way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskGroup

from sandbox import turns
from sandbox.phases import QUEUE, Phases
from tests.harness.waiting import eventually

pytestmark = pytest.mark.anyio

_PROJECT = Path(__file__).resolve().parents[3]
_HOLDER = """\
import sys
sys.path[:0] = {path!r}
import anyio
from pathlib import Path
from sandbox.phases import Phases
from sandbox.turns import turn

async def hold():
    async with turn(Path({directory!r}), 1, Phases()):
        await anyio.sleep_forever()

anyio.run(hold)
"""


class Line:
    """Pods that want to boot; `booting` are those whose turn it is, `done` ends the boot of one."""

    def __init__(self, root: Path, group: TaskGroup, most: int) -> None:
        self._root = root
        self._group = group
        self._most = most
        self._ends: dict[str, anyio.Event] = {}
        self.booting: list[str] = []
        self.phases: dict[str, Phases] = {}

    async def come(self, name: str) -> anyio.CancelScope:
        scope, self._ends[name] = anyio.CancelScope(), anyio.Event()
        (self._root / name).mkdir()
        self._group.start_soon(self._boot, name, scope)
        await reached(lambda: (self._root / name / turns.NAME).exists())
        return scope

    async def _boot(self, name: str, scope: anyio.CancelScope) -> None:
        phases = self.phases[name] = Phases()
        with scope:
            async with turns.turn(self._root / name, self._most, phases):
                self.booting.append(name)
                await self._ends[name].wait()
            self.booting.remove(name)

    def done(self, name: str) -> None:
        self._ends[name].set()


async def reached(condition: object) -> None:
    assert callable(condition)
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.001)


async def settled() -> None:
    """Everybody has had the time to do what they should not."""
    await anyio.wait_all_tasks_blocked()


@asynccontextmanager
async def line(root: Path, most: int) -> AsyncIterator[Line]:
    async with anyio.create_task_group() as group:
        yield Line(root, group, most)
        group.cancel_scope.cancel()


async def test_no_more_than_allowed_boot_at_a_time_and_in_order(tmp_path: Path) -> None:
    async with line(tmp_path, 2) as pods:
        for name in "abcde":
            await pods.come(name)
        all_in_line = time.monotonic()
        await settled()
        assert pods.booting == ["a", "b"]

        waited = time.monotonic() - all_in_line
        pods.done("b")
        await reached(lambda: pods.booting == ["a", "c"])
        pods.done("a")
        await reached(lambda: pods.booting == ["c", "d"])
        await settled()
        assert pods.booting == ["c", "d"]
        assert pods.phases["a"].durations.keys() == {QUEUE}
        assert pods.phases["c"].durations[QUEUE] >= waited
        assert QUEUE not in pods.phases["e"].durations


async def test_who_gives_up_frees_the_place(tmp_path: Path) -> None:
    async with line(tmp_path, 1) as pods:
        await pods.come("a")
        waiting = await pods.come("b")
        await pods.come("c")

        waiting.cancel()
        await reached(lambda: not (tmp_path / "b" / turns.NAME).exists())
        pods.done("a")

        await reached(lambda: pods.booting == ["c"])


async def test_the_place_of_a_killed_process_is_free(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    path = [str(_PROJECT), *(entry for entry in sys.path if "site-packages" in entry)]
    text = _HOLDER.format(path=path, directory=str(tmp_path / "dead"))
    holder = subprocess.Popen([sys.executable, "-c", text])
    eventually((tmp_path / "dead" / turns.NAME).exists, "the other process stands in line")
    async with line(tmp_path, 1) as pods:
        await pods.come("waiting")
        await settled()
        assert pods.booting == []

        holder.kill()
        holder.wait()
        await reached(lambda: pods.booting == ["waiting"])

        pods.done("waiting")
        await pods.come("late")
        await reached(lambda: pods.booting == ["late"])
        assert (tmp_path / "dead" / turns.NAME).exists()


async def test_waiting_leaves_the_boot_its_share_of_the_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with line(tmp_path, 1) as pods:
        await pods.come("a")
        scope = await pods.come("b")
        await settled()
        assert pods.booting == ["a"]
        (tmp_path / "c").mkdir()

        with anyio.fail_after(0.2):
            async with turns.turn(tmp_path / "c", 1, Phases()):
                pass

        assert "before its turn" in caplog.text
        assert not scope.cancel_called


async def test_a_line_that_can_not_be_stood_in_does_not_keep_from_booting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with turns.turn(tmp_path / "missing", 1, Phases()):
        pass

    assert "without waiting" in caplog.text


async def test_a_boot_that_fails_gives_its_place_back_and_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(ValueError, match="boot"):
        async with turns.turn(tmp_path / "a", 1, Phases()):
            raise ValueError("boot")

    assert not (tmp_path / "a" / turns.NAME).exists()
    assert len(os.listdir("/proc/self/fd")) == before
