"""Contract of the pod: containerd's sequences, orders and codes, on a fake guest behind a real socket."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import anyio
import pytest
from grpclib.const import Status

from sandbox.errors import (
    AlreadyExistsError,
    DeadlineError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    SandboxError,
    UnavailableError,
    UnimplementedError,
)
from sandbox.interface import CreateRequest, ExecRequest, ProcessStatus, StdioUris
from tests.fakes.world import PATIENCE, World

pytestmark = pytest.mark.anyio

ECHO = b'{"args": ["echo"], "cwd": "/"}'


def exec_request(exec_id: str, process: bytes = ECHO) -> ExecRequest:
    return ExecRequest("c1", exec_id, process, StdioUris(stdout=exec_id))


async def test_a_container_runs_and_its_exit_and_output_arrive(world: World):
    await world.single(stdout=b"hello", stderr=b"oops", exit_code=3)
    with anyio.fail_after(PATIENCE):
        end = await world.sandbox.wait("c1", "")
    assert end.exit_status == 3
    assert (world.stdio["c1"].stdout, world.stdio["c1"].stderr) == (b"hello", b"oops")
    state = world.sandbox.state("c1", "")
    assert (state.status, state.exit_status, state.pid) == (ProcessStatus.STOPPED, 3, world.vm.pid)
    assert (await world.sandbox.delete("c1", "")).exit_status == 3
    assert world.names() == ["TaskCreate", "TaskStart", "TaskExit", "TaskDelete"]
    assert world.sandbox.is_empty
    assert world.stdio["c1"].closed


async def test_wait_is_answered_at_once_and_to_everybody(world: World):
    await world.single()
    ends = []

    async def waiter() -> None:
        ends.append(await world.sandbox.wait("c1", ""))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(waiter)
            await world.sandbox.kill("c1", "", signal.SIGTERM, everyone=False)
    assert {end.exit_status for end in ends} == {143}
    assert (await world.sandbox.wait("c1", "")).exit_status == 143


async def test_the_end_of_the_pod_s_own_process_is_the_end_of_its_vm(world: World):
    await world.single(exit_code=0)
    with anyio.fail_after(PATIENCE):
        await world.vm.wait()
    assert world.agent.destroyed


async def test_a_second_create_of_an_id_is_refused_and_changes_nothing(world: World):
    await world.single()
    with pytest.raises(AlreadyExistsError):
        await world.sandbox.create(CreateRequest("c1", world.tmp), PATIENCE)
    assert world.sandbox.state("c1", "").status is ProcessStatus.RUNNING


async def test_a_second_start_is_refused(world: World):
    await world.single()
    with pytest.raises(FailedPreconditionError, match="it is running"):
        await world.sandbox.start("c1", "")


async def test_delete_of_a_running_container_is_refused(world: World):
    await world.single()
    with pytest.raises(FailedPreconditionError, match="cannot delete container c1: it is running"):
        await world.sandbox.delete("c1", "")


async def test_kill_of_an_ended_process_is_not_found_and_so_is_an_unknown_one(world: World):
    await world.single(exit_code=0)
    await world.sandbox.wait("c1", "")
    with pytest.raises(NotFoundError, match="process already finished"):
        await world.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)
    with pytest.raises(NotFoundError, match="container c2: not found"):
        await world.sandbox.kill("c2", "", signal.SIGKILL, everyone=True)
    await world.sandbox.delete("c1", "")
    with pytest.raises(NotFoundError):
        await world.sandbox.delete("c1", "")


async def test_a_created_container_that_is_killed_or_deleted_ends(world: World):
    await world.sandbox.create(world.bundle("c1"), PATIENCE)
    assert world.sandbox.state("c1", "").status is ProcessStatus.CREATED
    with anyio.fail_after(PATIENCE):
        end = await world.sandbox.delete("c1", "")
    assert end.exit_status == 137


async def test_a_command_that_does_not_exist_ends_with_127_and_one_that_may_not_run_with_126(world: World):
    await world.single()
    for code, text, status in (
        (Status.NOT_FOUND, 'exec: "nope": executable file not found in $PATH', 127),
        (Status.PERMISSION_DENIED, 'exec: "/etc/passwd": permission denied', 126),
    ):
        world.agent.on_exec("c1", error=(code, text))
        await world.sandbox.exec(exec_request(f"e{status}"))
        with pytest.raises(SandboxError, match=r"exec: ") as caught:
            await world.sandbox.start("c1", f"e{status}")
        assert caught.value.status is Status.UNKNOWN
        with anyio.fail_after(PATIENCE):
            assert (await world.sandbox.wait("c1", f"e{status}")).exit_status == status
        assert world.sandbox.state("c1", f"e{status}").status is ProcessStatus.STOPPED
        assert (await world.sandbox.delete("c1", f"e{status}")).exit_status == status
        assert world.stdio[f"e{status}"].closed


async def test_an_exec_lives_beside_init_and_its_events_are_in_order(world: World):
    await world.single()
    world.agent.on_exec("c1", stdout=b"out", exit_code=7)
    await world.sandbox.exec(exec_request("e1"))
    with pytest.raises(AlreadyExistsError):
        await world.sandbox.exec(exec_request("e1"))
    assert world.sandbox.state("c1", "e1").status is ProcessStatus.CREATED
    await world.sandbox.start("c1", "e1")
    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("c1", "e1")).exit_status == 7
    assert world.stdio["e1"].stdout == b"out"
    await world.sandbox.delete("c1", "e1")
    with pytest.raises(NotFoundError):
        world.sandbox.state("c1", "e1")
    assert world.names() == ["TaskCreate", "TaskStart", "TaskExecAdded", "TaskExecStarted", "TaskExit"]


async def test_a_signal_to_an_exec_that_was_not_started_is_refused(world: World):
    await world.single()
    await world.sandbox.exec(exec_request("e1"))
    with pytest.raises(FailedPreconditionError, match="process not created"):
        await world.sandbox.kill("c1", "e1", signal.SIGKILL, everyone=False)


async def test_an_exec_whose_streams_can_not_be_opened_has_ended(world: World, monkeypatch: pytest.MonkeyPatch):
    async def refuse(container_id: str, uris: StdioUris) -> NoReturn:
        raise InvalidArgumentError("output FIFO /gone: No such file or directory")

    await world.single()
    await world.sandbox.exec(exec_request("e1"))
    monkeypatch.setattr(world.sandbox.pod, "open_stdio", refuse)
    with pytest.raises(InvalidArgumentError, match="/gone"):
        await world.sandbox.start("c1", "e1")
    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("c1", "e1")).exit_status == 255
    assert world.sandbox.state("c1", "e1").status is ProcessStatus.STOPPED
    await world.sandbox.delete("c1", "e1")
    assert world.names() == ["TaskCreate", "TaskStart", "TaskExecAdded"]


@pytest.mark.parametrize("end", ["delete", "exit"])
async def test_who_waits_for_an_exec_that_is_never_started_is_released(world: World, end: str):
    ends = []

    async def waiter() -> None:
        ends.append(await world.sandbox.wait("c1", "e1"))

    await world.single()
    await world.sandbox.exec(exec_request("e1"))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(waiter)
            await anyio.wait_all_tasks_blocked()
            if end == "delete":
                await world.sandbox.delete("c1", "e1")
            else:
                await world.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)
    assert [one.exit_status for one in ends] == [137]
    assert "e1" not in [event.id for event in world.events if type(event).__name__ == "TaskExit"]


async def test_the_delete_of_an_exec_that_was_never_started_answers_status_0(world: World):
    await world.single()
    await world.sandbox.exec(exec_request("e1"))
    end = await world.sandbox.delete("c1", "e1")
    assert (end.exit_status, end.exited_at_ns) == (0, 0)


async def test_the_exit_of_init_waits_for_an_exec_that_is_being_started(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sandbox.exits.ORDER_TIMEOUT", 60.0)
    await world.single()
    await world.sandbox.exec(exec_request("e1"))
    world.agent.on_exec("c1", exit_code=7)
    world.agent.block("ExecProcess")
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(world.sandbox.start, "c1", "e1")
            await world.agent.called("ExecProcess")
            world.agent.process("c1").exit(0)
            # The last step before init's exit is told.
            await world.agent.called("StatsContainer")
            await anyio.wait_all_tasks_blocked()
            world.agent.release("ExecProcess")
        await world.sandbox.wait("c1", "")
    assert world.names()[-3:] == ["TaskExecStarted", "TaskExit", "TaskExit"]
    assert [event.id for event in world.events[-2:]] == ["e1", "c1"]


async def test_an_exec_in_a_container_that_does_not_run_is_refused(world: World):
    await world.sandbox.create(world.bundle("c1"), PATIENCE)
    with pytest.raises(FailedPreconditionError, match="created, not started"):
        await world.sandbox.exec(exec_request("e1"))


@pytest.mark.parametrize("process", [b"", b"{}", b'{"args": ["x"], "cwd": "y"}', b"\xff"])
async def test_a_malformed_exec_is_refused(world: World, process: bytes):
    await world.single()
    with pytest.raises(InvalidArgumentError, match="process of exec e1"):
        await world.sandbox.exec(exec_request("e1", process))


async def test_the_death_of_the_vm_ends_every_process_execs_first(world: World):
    await world.single()
    await world.sandbox.exec(exec_request("e1"))
    await world.sandbox.start("c1", "e1")
    world.vm.die("QEMU was killed by SIGKILL")
    world.agent.refuse()
    world.agent.drop()
    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("c1", "e1")).exit_status == 137
        assert (await world.sandbox.wait("c1", "")).exit_status == 137
    exits = [event.id for event in world.events if type(event).__name__ == "TaskExit"]
    assert exits == ["e1", "c1"]
    assert (await world.sandbox.delete("c1", "")).exit_status == 137
    with pytest.raises(NotFoundError):
        await world.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)


async def test_the_death_of_virtiofsd_is_the_death_of_the_pod(world: World):
    await world.single()
    world.virtiofsd.kill()
    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("c1", "")).exit_status == 137
        await world.vm.wait()


async def test_a_create_that_fails_in_the_guest_leaves_nothing(world: World):
    world.agent.fail("CreateContainer", Status.INVALID_ARGUMENT, "no such storage")
    with pytest.raises(InvalidArgumentError, match=r"create container c1: .*no such storage"):
        await world.sandbox.create(world.bundle("c1"), PATIENCE)
    assert world.sandbox.is_empty
    assert world.stdio["c1"].closed
    assert world.events == []
    with anyio.fail_after(PATIENCE):
        await world.vm.wait()
    with pytest.raises(NotFoundError):
        await world.sandbox.delete("c1", "")


async def test_a_vm_that_dies_while_it_boots_is_told_with_phase_and_cause(world: World):
    world.agent.block("Check")

    async def die() -> None:
        await world.agent.called("Check")
        world.vm.die("QEMU exited with status 1: Kernel panic - not syncing")

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(die)
            with pytest.raises(UnavailableError, match=r"phase agent failed after .* Kernel panic - not syncing"):
                await world.sandbox.create(world.bundle("c1"), PATIENCE)


async def test_an_agent_that_is_silent_is_told_within_the_dial_timeout(world: World):
    world.agent.block("Check")
    world.vm.console = "[    1.0] last words"
    with anyio.fail_after(PATIENCE):
        with pytest.raises(
            UnavailableError, match=r"phase agent failed after 3\.\d s: .*console ended with: .*last words"
        ):
            await world.sandbox.create(world.bundle("c1"), None)
    assert world.sandbox.is_empty


async def test_the_caller_s_deadline_holds_and_everything_is_undone(world: World):
    world.agent.block("CreateContainer")
    with anyio.fail_after(PATIENCE):
        with pytest.raises(DeadlineError, match=r"not created within 0\.5 s: it was in phase container"):
            await world.sandbox.create(world.bundle("c1"), 0.5)
        await world.vm.wait()
    assert world.sandbox.is_empty


async def test_a_create_goes_on_when_its_caller_hangs_up(world: World):
    world.agent.block("CreateContainer")
    async with anyio.create_task_group() as group:
        group.start_soon(world.sandbox.create, world.bundle("c1"), PATIENCE)
        await world.agent.called("CreateContainer")
        group.cancel_scope.cancel()
    world.agent.release("CreateContainer")
    with anyio.fail_after(PATIENCE):
        while world.names() != ["TaskCreate"]:
            await anyio.sleep(0.01)
    assert world.sandbox.state("c1", "").status is ProcessStatus.CREATED


async def test_a_delete_in_the_middle_of_a_create_undoes_it(world: World):
    world.agent.block("CreateContainer")
    failures = []

    async def create() -> None:
        try:
            await world.sandbox.create(world.bundle("c1"), PATIENCE)
        except SandboxError as error:
            failures.append(error)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(create)
            await world.agent.called("CreateContainer")
            with pytest.raises(NotFoundError):
                await world.sandbox.delete("c1", "")
    assert "cancelled" in str(failures[0])
    assert world.sandbox.is_empty


async def test_a_pod_has_one_vm_and_its_containers_come_and_go(world: World):
    await world.sandbox.create(world.bundle("s1", "sandbox"), PATIENCE)
    await world.sandbox.start("s1", "")
    for number in range(2):
        name = f"c{number}"
        world.agent.on_start(name, exit_code=number)
        await world.sandbox.create(world.bundle(name, "container"), PATIENCE)
        await world.sandbox.start(name, "")
        with anyio.fail_after(PATIENCE):
            assert (await world.sandbox.wait(name, "")).exit_status == number
        await world.sandbox.delete(name, "")
    assert len(world.agent.requests("CreateSandbox")) == 1
    assert len(world.agent.requests("RemoveContainer")) == 2
    assert world.sandbox.state("s1", "").status is ProcessStatus.RUNNING


async def test_a_failed_container_leaves_the_pod_alone(world: World):
    await world.sandbox.create(world.bundle("s1", "sandbox"), PATIENCE)
    await world.sandbox.start("s1", "")
    world.agent.fail("CreateContainer", Status.INTERNAL, "crun says no")
    with pytest.raises(SandboxError, match="crun says no"):
        await world.sandbox.create(world.bundle("c1", "container"), PATIENCE)
    assert world.sandbox.state("s1", "").status is ProcessStatus.RUNNING
    assert not world.agent.destroyed


async def test_a_container_without_its_pod_is_refused(world: World):
    with pytest.raises(FailedPreconditionError, match="is not running"):
        await world.sandbox.create(world.bundle("c1", "container"), PATIENCE)


async def test_a_checkpoint_is_refused(world: World):
    request = CreateRequest("c1", world.bundle("c1").bundle, checkpoint="/some/image")
    with pytest.raises(UnimplementedError, match="checkpoint"):
        await world.sandbox.create(request, PATIENCE)


async def test_pause_and_resume_move_the_state_and_tell(world: World):
    await world.single()
    await world.sandbox.pause("c1")
    assert world.sandbox.state("c1", "").status is ProcessStatus.PAUSED
    with pytest.raises(FailedPreconditionError):
        await world.sandbox.pause("c1")
    await world.sandbox.resume("c1")
    assert world.sandbox.state("c1", "").status is ProcessStatus.RUNNING
    assert world.names()[-2:] == ["TaskPaused", "TaskResumed"]


@pytest.mark.parametrize("move", ["pause", "resume"])
async def test_a_pause_or_resume_is_made_whole_when_its_caller_hangs_up(world: World, move: str):
    await world.single()
    if move == "resume":
        await world.sandbox.pause("c1")
    rpc = {"pause": "PauseContainer", "resume": "ResumeContainer"}[move]
    world.agent.block(rpc)
    async with anyio.create_task_group() as group:
        group.start_soon(getattr(world.sandbox, move), "c1")
        await world.agent.called(rpc)
        group.cancel_scope.cancel()
    world.agent.release(rpc)
    event, status = {
        "pause": ("TaskPaused", ProcessStatus.PAUSED),
        "resume": ("TaskResumed", ProcessStatus.RUNNING),
    }[move]
    with anyio.fail_after(PATIENCE):
        while world.names()[-1] != event:
            await anyio.sleep(0.01)
    assert world.sandbox.state("c1", "").status is status


async def test_an_update_is_made_whole_when_its_caller_hangs_up(world: World, monkeypatch: pytest.MonkeyPatch):
    ends = []

    @asynccontextmanager
    async def updating(*_: object) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            ends.append("undone")
            raise
        ends.append("done")

    await world.single()
    monkeypatch.setattr(world.sandbox.pod.require_machine().sizer, "updating", updating)
    world.agent.block("UpdateContainer")
    async with anyio.create_task_group() as group:
        group.start_soon(world.sandbox.update, "c1", b'{"memory": {"limit": 134217728}}')
        await world.agent.called("UpdateContainer")
        group.cancel_scope.cancel()
    world.agent.release("UpdateContainer")
    with anyio.fail_after(PATIENCE):
        while not ends:
            await anyio.sleep(0.01)
    assert ends == ["done"]


async def test_of_two_deletes_at_once_the_second_finds_nothing_once_the_first_is_done(world: World):
    await world.sandbox.create(world.bundle("s1", "sandbox"), PATIENCE)
    await world.sandbox.create(world.bundle("c1", "container"), PATIENCE)
    world.agent.block("RemoveContainer")
    failures = []

    async def delete() -> None:
        try:
            await world.sandbox.delete("c1", "")
        except SandboxError as error:
            failures.append(type(error))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(delete)
            group.start_soon(delete)
            await world.agent.called("RemoveContainer")
            await anyio.wait_all_tasks_blocked()
            assert not failures
            world.agent.release("RemoveContainer")
    assert failures == [NotFoundError]
    assert world.names().count("TaskDelete") == 1


async def test_a_container_is_forgotten_even_if_the_host_can_not_give_all_back(world: World):
    def fail() -> NoReturn:
        raise OSError("read-only file system")

    await world.single(exit_code=0)
    await world.sandbox.wait("c1", "")
    world.sandbox.pod.container("c1").held.callback(fail)
    with pytest.raises(OSError, match="read-only"):
        await world.sandbox.delete("c1", "")
    with pytest.raises(NotFoundError):
        await world.sandbox.delete("c1", "")
    assert world.sandbox.is_empty


async def test_an_oom_kill_is_told_before_the_exit(world: World):
    await world.single()
    world.agent.oom("c1")
    with anyio.fail_after(PATIENCE):
        while "TaskOom" not in world.names():
            await anyio.sleep(0.01)
    await world.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)
    await world.sandbox.wait("c1", "")
    assert world.names() == ["TaskCreate", "TaskStart", "TaskOom", "TaskExit"]


async def test_statistics_outlive_the_process(world: World):
    await world.single()
    alive = await world.sandbox.stats("c1")
    await world.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)
    await world.sandbox.wait("c1", "")
    assert await world.sandbox.stats("c1") == alive


async def test_standard_input_arrives_and_close_io_ends_it(world: World):
    world.stdin = b"some input"
    await world.single(echo=True)
    await world.sandbox.close_io("c1", "")
    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("c1", "")).exit_status == 0
    assert world.stdio["c1"].stdout == b"some input"


async def test_a_grandchild_that_keeps_the_output_open_does_not_hold_back_the_exit(world: World):
    await world.single(stdout=b"early")
    process = world.agent.process("c1")
    process.stdout.end = lambda: None
    process.exit(0)
    with anyio.fail_after(PATIENCE):
        await world.sandbox.wait("c1", "")
    assert world.stdio["c1"].stdout == b"early"


async def test_memory_answers_while_the_guest_hangs(world: World):
    await world.single()
    world.agent.block("SignalProcess")
    async with anyio.create_task_group() as group:
        group.start_soon(world.sandbox.kill, "c1", "", signal.SIGTERM, False)
        await world.agent.called("SignalProcess")
        assert world.sandbox.state("c1", "").status is ProcessStatus.RUNNING
        assert (await world.sandbox.pids("c1"))[0].pid == world.vm.pid
        assert world.sandbox.task_pid("anything") == world.vm.pid
        group.cancel_scope.cancel()


async def test_shutdown_returns_when_the_ends_of_its_containers_are_told(world: World, monkeypatch: pytest.MonkeyPatch):
    await world.single()
    stdio = world.stdio["c1"]
    close = stdio.aclose

    async def close_slowly() -> None:
        # As with a logger that ends in its own time.
        await anyio.sleep(0.3)
        await close()

    monkeypatch.setattr(stdio, "aclose", close_slowly)
    monkeypatch.setattr("sandbox.pod_state.ENDS_TIMEOUT", 60.0)
    with anyio.fail_after(PATIENCE):
        await world.sandbox.shutdown()
    assert world.names() == ["TaskCreate", "TaskStart", "TaskExit"]


async def test_shutdown_leaves_nothing_and_may_be_repeated(world: World):
    await world.single()
    with anyio.fail_after(PATIENCE):
        await world.sandbox.shutdown()
        await world.sandbox.shutdown()
    assert not list((world.tmp / "run").iterdir())
