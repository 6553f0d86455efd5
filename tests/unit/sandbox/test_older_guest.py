"""Contract: a stock guest of Kata 3.x is driven with what its agent has.

Kata 4.1's protocol is 3.x's with four RPCs more; none was taken away or renamed in between.
"""

from __future__ import annotations

import signal
from typing import Any

import anyio
import pytest
from grpclib.const import Status

from protos.gen.grpc import AgentServiceBase
from sandbox.interface import ExecRequest, StdioUris
from tests.fakes.world import PATIENCE, World

pytestmark = pytest.mark.anyio

#: `grpc.AgentService` as Kata 3.2 and 3.3 have it.
_KATA_3 = """
    CreateContainer StartContainer RemoveContainer ExecProcess SignalProcess WaitProcess UpdateContainer
    UpdateEphemeralMounts StatsContainer PauseContainer ResumeContainer RemoveStaleVirtiofsShareMounts
    WriteStdin ReadStdout ReadStderr CloseStdin TtyWinResize
    UpdateInterface UpdateRoutes ListInterfaces ListRoutes AddARPNeighbors GetIPTables SetIPTables GetMetrics
    CreateSandbox DestroySandbox OnlineCPUMem ReseedRandomDev GetGuestDetails MemHotplugByProbe SetGuestDateTime
    CopyFile GetOOMEvent AddSwap GetVolumeStats ResizeVolume SetPolicy
"""
KATA_3 = set(_KATA_3.split())
LATER = {"GetDiagnosticData", "MemAgentMemcgSet", "MemAgentCompactSet", "AddSwapPath"}
HEALTH = {"Check", "Version"}


@pytest.fixture
def older(world: World) -> World:
    """The pod, on a guest of that kind."""
    world.agent.is_stock = True
    for rpc in LATER:
        world.agent.fail(rpc, Status.UNIMPLEMENTED, f"/grpc.AgentService/{rpc} is not supported")
    return world


def asked(world: World) -> set[Any]:
    """The RPCs that were called."""
    return {name for name, _ in world.agent.calls}


def test_the_protocol_of_4_1_has_all_of_3_x():
    served = {route.rpartition("/")[2] for route in AgentServiceBase().__mapping__()}
    assert served == KATA_3 | LATER


async def test_a_container_lives_and_ends_with_what_the_guest_has(older: World):
    await older.single(stdout=b"output")
    await older.sandbox.exec(ExecRequest("c1", "e1", b'{"args": ["true"], "cwd": "/"}', StdioUris(stdout="e1")))
    older.agent.on_exec("c1", exit_code=3)
    await older.sandbox.start("c1", "e1")
    with anyio.fail_after(PATIENCE):
        assert (await older.sandbox.wait("c1", "e1")).exit_status == 3
        await older.sandbox.stats("c1")
        await older.sandbox.pause("c1")
        await older.sandbox.resume("c1")
        await older.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)
        assert (await older.sandbox.wait("c1", "")).exit_status == 137
        await older.sandbox.delete("c1", "")
        await older.sandbox.shutdown()

    assert older.stdio["c1"].stdout == b"output"
    assert asked(older) - HEALTH <= KATA_3


async def test_no_output_is_lost_with_an_agent_that_forgets_a_process_when_it_has_told_its_end(older: World):
    output = bytes(range(256)) * 2000

    await older.single(stdout=output, stderr=output, exit_code=4)

    with anyio.fail_after(PATIENCE):
        assert (await older.sandbox.wait("c1", "")).exit_status == 4
    assert older.stdio["c1"].stdout == older.stdio["c1"].stderr == output


async def test_an_empty_answer_is_the_end_of_the_output_however_late_it_comes(older: World, monkeypatch):
    # Kata 4's answer when a descendant has held the output for a while after the end: another read would not end.
    monkeypatch.setattr("sandbox.streams.PROMPT", 0.0)

    await older.single(stdout=b"output", exit_code=0)

    with anyio.fail_after(PATIENCE):
        await older.sandbox.wait("c1", "")
    assert [len(older.agent.requests(rpc)) for rpc in ("ReadStdout", "ReadStderr")] == [2, 1]


async def test_a_signal_for_the_init_is_not_one_for_every_process(older: World):
    await older.single(ignores=frozenset({signal.SIGTERM}))
    await older.sandbox.exec(ExecRequest("c1", "e1", b'{"args": ["true"], "cwd": "/"}', StdioUris(stdout="e1")))
    await older.sandbox.start("c1", "e1")

    await older.sandbox.kill("c1", "", signal.SIGTERM, everyone=False)

    (init, other) = older.agent.container("c1").processes
    assert (init.signals, other.signals) == ([signal.SIGTERM], [])


async def test_pids_are_those_that_the_host_knows_where_the_guest_has_no_list(older: World):
    await older.single()

    pids = await older.sandbox.pids("c1")
    await older.sandbox.pids("c1")

    assert [item.pid for item in pids] == [older.vm.pid]
    assert len(older.agent.requests("GetDiagnosticData")) == 1
