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


async def test_pids_are_those_that_the_host_knows_where_the_guest_has_no_list(older: World):
    await older.single()

    pids = await older.sandbox.pids("c1")
    await older.sandbox.pids("c1")

    assert [item.pid for item in pids] == [older.vm.pid]
    assert len(older.agent.requests("GetDiagnosticData")) == 1
