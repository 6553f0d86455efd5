"""A dropped connection whose VM lives: the pod goes on, no stream loses a byte, and what can not be known is told."""

from __future__ import annotations

import signal

import anyio
import pytest
from grpclib.const import Status

from agent_client import keeper
from sandbox.errors import NotFoundError, SandboxError, UnavailableError
from sandbox.interface import ExecRequest, ProcessStatus, StdioUris
from tests.fakes.world import PATIENCE, World

pytestmark = pytest.mark.anyio


def exec_request(exec_id: str) -> ExecRequest:
    return ExecRequest("c1", exec_id, b'{"args": ["x"], "cwd": "/"}', StdioUris(stdout=exec_id))


async def test_a_dropped_connection_is_made_again_and_the_exit_arrives_with_all_output(world: World):
    await world.single(stdout=b"early ")
    await world.agent.called("WaitProcess")
    world.agent.lose_answer("ReadStdout")
    world.agent.process("c1").stdout.write(b"middle ")
    await world.agent.called("WaitProcess", 2)

    world.agent.process("c1").stdout.write(b"late")
    world.agent.process("c1").exit(5)

    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("c1", "")).exit_status == 5
    assert world.stdio["c1"].stdout == b"early middle late"
    assert world.vm.calls.count("kill") == 0 or world.agent.destroyed


async def test_input_goes_on_where_it_was(world: World):
    world.stdin = bytes(range(256)) * 1000
    world.agent.lose_answer("WriteStdin", times=3)
    await world.single(echo=True)

    await world.sandbox.close_io("c1", "")

    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("c1", "")).exit_status == 0
    assert world.stdio["c1"].stdout == bytes(range(256)) * 1000


async def test_the_oom_watch_goes_on(world: World):
    await world.single()
    await world.agent.called("GetOOMEvent")
    world.agent.drop()
    await world.agent.called("GetOOMEvent", 2)

    world.agent.oom("c1")

    with anyio.fail_after(PATIENCE):
        while "TaskOom" not in world.names():
            await anyio.sleep(0.01)


async def test_calls_between_two_connections_wait_and_state_does_not(world: World):
    await world.single()
    world.agent.block("Check")
    world.agent.drop()
    await world.agent.called("Check", 2)

    async with anyio.create_task_group() as group:
        group.start_soon(world.sandbox.pause, "c1")
        await anyio.lowlevel.checkpoint()
        assert world.sandbox.state("c1", "").status is ProcessStatus.RUNNING
        world.agent.release("Check")

    assert world.sandbox.state("c1", "").status is ProcessStatus.PAUSED


async def test_statistics_do_not_wait_longer_than_containerd_does(world: World, monkeypatch):
    monkeypatch.setattr("sandbox.sandbox.STATS_TIMEOUT", 0.1)
    await world.single()
    world.agent.block("Check")
    world.agent.drop()
    await world.agent.called("Check", 2)

    with anyio.fail_after(PATIENCE), pytest.raises(UnavailableError, match="statistics of container c1"):
        await world.sandbox.stats("c1")


async def test_a_kill_whose_answer_was_lost_is_sent_again(world: World):
    await world.single(ignores=frozenset({signal.SIGKILL}))
    world.agent.lose_answer("SignalProcess")

    with anyio.fail_after(PATIENCE):
        await world.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)

    assert world.agent.process("c1").signals == [signal.SIGKILL, signal.SIGKILL]


async def test_another_signal_is_not_sent_twice_and_the_doubt_is_told(world: World):
    await world.single(ignores=frozenset({signal.SIGTERM}))
    world.agent.lose_answer("SignalProcess")

    with anyio.fail_after(PATIENCE), pytest.raises(UnavailableError, match="signal 15 to container c1 may not have"):
        await world.sandbox.kill("c1", "", signal.SIGTERM, everyone=False)

    assert world.agent.process("c1").signals == [signal.SIGTERM]


async def test_an_exec_whose_start_was_lost_fails_and_does_not_run_on(world: World):
    await world.single()
    await world.sandbox.exec(exec_request("e1"))
    world.agent.lose_answer("ExecProcess")

    with anyio.fail_after(PATIENCE), pytest.raises(SandboxError, match="ExecProcess: UNAVAILABLE: ttrpc: closed"):
        await world.sandbox.start("c1", "e1")

    (process,) = world.agent.container("c1").execs.values()
    assert process.signals == [signal.SIGKILL]
    assert (await world.sandbox.delete("c1", "e1")).exit_status == 255


async def test_a_container_whose_creation_was_lost_is_removed_from_the_guest(world: World):
    await world.sandbox.create(world.bundle("s1", "sandbox"), PATIENCE)
    await world.sandbox.start("s1", "")
    world.agent.lose_answer("CreateContainer")

    with anyio.fail_after(PATIENCE), pytest.raises(UnavailableError, match="create container c1"):
        await world.sandbox.create(world.bundle("c1", "container"), PATIENCE)

    assert list(world.agent.containers) == ["s1"]
    assert world.sandbox.state("s1", "").status is ProcessStatus.RUNNING


async def test_a_removal_whose_answer_was_lost_is_asked_for_again(world: World):
    await world.sandbox.create(world.bundle("s1", "sandbox"), PATIENCE)
    await world.sandbox.start("s1", "")
    world.agent.on_start("c1", exit_code=0)
    await world.sandbox.create(world.bundle("c1", "container"), PATIENCE)
    await world.sandbox.start("c1", "")
    with anyio.fail_after(PATIENCE):
        await world.sandbox.wait("c1", "")
        world.agent.lose_answer("RemoveContainer")
        await world.sandbox.delete("c1", "")

    assert len(world.agent.requests("RemoveContainer")) == 2


async def test_an_agent_that_can_not_be_reached_again_is_the_death_of_its_vm_with_the_cause_told(
    world: World, monkeypatch, caplog
):
    monkeypatch.setattr(keeper, "RECONNECT_TIMEOUT", 0.3)
    await world.single()
    world.agent.refuse()
    world.agent.drop()

    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("c1", "")).exit_status == 137
        await world.vm.wait()

    assert "the VM is lost: the connection to the agent was lost" in caplog.text
    with pytest.raises(NotFoundError):
        await world.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)


async def test_a_vm_that_dies_while_its_agent_is_reached_again_ends_the_pod_at_once(world: World):
    await world.single()
    world.agent.refuse()
    world.agent.drop()
    world.vm.die("QEMU was killed by SIGSEGV", signal=11)

    with anyio.fail_after(1):
        assert (await world.sandbox.wait("c1", "")).exit_status == 137
    assert world.sandbox.pod.machine
    assert world.sandbox.pod.machine.cause == "QEMU was killed by SIGSEGV"


async def test_a_stock_agent_s_pod_goes_on_too(world: World):
    world.agent.is_stock = True
    await world.single()
    await world.agent.called("ReadStdout")
    world.agent.drop()
    await world.agent.called("ReadStdout", 2)
    world.agent.process("c1").stdout.write(b"after")

    world.agent.process("c1").exit(3)

    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("c1", "")).exit_status == 3
    assert world.stdio["c1"].stdout == b"after"


async def test_a_stock_agent_s_input_ends_where_it_can_not_be_known(world: World, caplog):
    world.agent.is_stock = True
    world.stdin = b"some input"
    world.agent.lose_answer("WriteStdin")
    await world.single(echo=True)

    with anyio.fail_after(PATIENCE):
        await world.sandbox.wait("c1", "")

    assert "standard input ends early" in caplog.text
    assert Status.DATA_LOSS.name in caplog.text
