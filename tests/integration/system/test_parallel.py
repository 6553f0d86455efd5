"""Pods that start together boot so many at a time, in the order in which they came."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sandbox.phases import Phases
from sandbox.rundir import ROOT, read_journal, run_dir_for
from sandbox.turns import NAME, turn
from tests.harness import processes
from tests.harness.bed import Bed
from tests.harness.boots import Boot, most_at_once, overtaken
from tests.harness.ctr import Ctr
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

#: Seconds for all boots, under emulation and beside other tests.
TIMEOUT = 150.0
#: How inexact the end of a boot is in the journal, in seconds; a boot takes several of them without KVM.
TOLERANCE = 0.3

_PODS = tuple(f"together-{index}" for index in range(4))
_KILLED = "together-1"


@pytest.fixture
async def standing_still(nothing_left: None) -> AsyncIterator[AsyncExitStack]:
    """Two places of the line are taken until this is closed: nobody boots, of those who allow for two."""
    names = [ROOT / f"test-{os.getpid()}-{index}" for index in range(2)]
    async with AsyncExitStack() as stack:
        for path in names:
            path.mkdir(parents=True)
            await stack.enter_async_context(turn(path, 2, Phases()))
        yield stack
    for path in names:
        shutil.rmtree(path)


async def test_pods_boot_two_at_a_time_in_order_and_a_killed_one_is_in_nobodys_way(
    bed: Bed, standing_still: AsyncExitStack, tmp_path: Path
) -> None:
    configuration = tmp_path / "configuration.toml"
    text = bed.configuration.read_text()
    configuration.write_text(text.replace("[runtime]\n", "[runtime]\nmax_parallel_boots = 2\n", 1))
    ctr = Ctr(bed.socket, bed.runtime, configuration=configuration)
    places = {pod: run_dir_for(str(bed.socket), "default", pod) for pod in _PODS}
    with_fifos = ("--detach", "--fifo-dir", str(tmp_path / "fifos"))
    async with AsyncExitStack() as clients:
        running = {}
        for pod, place in places.items():
            words = ctr.run_arguments(pod, "sleep", "100000", options=with_fifos)
            running[pod] = clients.enter_context(ctr.background(*words))
            clients.callback(ctr.remove, pod)
            eventually((place / NAME).exists, f"{pod} stands in line", TIMEOUT)
        assert not [pod for pod, place in places.items() if "qemu" in read_journal(place)["processes"]]

        os.kill(read_journal(places[_KILLED])["processes"]["daemon"]["pid"], signal.SIGKILL)
        assert running[_KILLED].wait(TIMEOUT) != 0
        await standing_still.aclose()

        up = [pod for pod in _PODS if pod != _KILLED]
        assert [running[pod].wait(TIMEOUT) for pod in up] == [0, 0, 0]
        boots = [Boot.of(read_journal(places[pod])) for pod in up]
    eventually(lambda: not processes.find("-id together-"), "the daemons are gone")
    assert boots[2].turn > max(boots[0].turn, boots[1].turn)
    assert not overtaken(boots, TOLERANCE)
    assert most_at_once(boots, TOLERANCE) <= 2
    assert boots[2].turn >= min(boots[0].ready, boots[1].ready) - TOLERANCE
