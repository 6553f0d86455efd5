"""A task's life as ctr drives it: signals, states, pause and resume, and what is refused when."""

from __future__ import annotations

import time

import pytest
from grpclib.const import Status as Code

from protos.gen.containerd.task.v2 import (
    ConnectRequest,
    DeleteRequest,
    KillRequest,
    PauseRequest,
    PidsRequest,
    ResumeRequest,
    ShutdownRequest,
    StartRequest,
    StateRequest,
    WaitRequest,
)
from protos.gen.containerd.v1.types import Status
from tests.harness.waiting import eventually
from tests.integration.system.task import expect_status
from tests.integration.system.vm import Vm

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", 137), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_container_ended_by_a_signal_exits_with_128_and_its_number(vm: Vm, name: str, code: int) -> None:
    # `sleep` as init ignores what it does not handle; below a shell it does not.
    with vm.container("sh", "-c", "sleep 1000; exit $?") as container:
        if name == "SIGKILL":
            vm.ctr.kill(container, name).check()
        else:
            # Its own exit status says nothing: it goes down with the container's init when that is quicker.
            vm.exec(container, "killall", f"-{name}", "sleep")

        assert vm.exit_code(container) == code


@pytest.mark.parametrize("number", ["10", "37"])
def test_a_handler_decides_on_the_exit_code(vm: Vm, number: str) -> None:
    # 37 is SIGRTMIN+3, by which systemd is told to halt.
    script = f"trap 'exit 42' {number}; touch /tmp/ready; while :; do sleep 0.05; done"
    with vm.container("sh", "-c", script) as container:
        vm.exec(container, "sh", "-c", "until [ -e /tmp/ready ]; do usleep 10000; done; rm /tmp/ready").check()

        vm.ctr.kill(container, number).check()

        assert vm.exit_code(container) == 42


def test_sigterm_ends_an_init_that_does_not_handle_it(vm: Vm) -> None:
    # The kernel keeps it from an init; Kata's agent sends SIGKILL instead.
    with vm.container("sleep", "1000") as container:
        vm.ctr.kill(container, "SIGTERM").check()

        assert vm.exit_code(container) == 137


def test_an_exec_is_killed_by_its_own_id_and_the_container_stays(vm: Vm) -> None:
    with vm.container() as container:
        exec_id = vm.new_id()
        flags = ("--exec-id", exec_id, container, "sleep", "1000")
        with vm.ctr.background("task", "exec", *flags) as client:
            eventually(lambda: "sleep 1000" in vm.exec(container, "ps").text, "the exec runs")

            vm.ctr.kill(container, "SIGKILL", options=("--exec-id", exec_id)).check()

            assert client.wait(20) == 137
        assert vm.ctr.tasks()[container] == "RUNNING"


def test_a_signal_to_all_reaches_execs_too(vm: Vm) -> None:
    with vm.container() as container:
        flags = ("--exec-id", vm.new_id(), container, "sleep", "1000")
        with vm.ctr.background("task", "exec", *flags) as client:
            eventually(lambda: "sleep 1000" in vm.exec(container, "ps").text, "the exec runs")

            vm.ctr.kill(container, "SIGKILL", options=("--all",)).check()

            assert client.wait(20) == 137
        assert vm.exit_code(container) == 137


def test_a_paused_container_stands_still_until_it_is_resumed(vm: Vm) -> None:
    with vm.container("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /root/count; done") as container:
        count = vm.root / "root" / "count"
        eventually(lambda: count.exists() and count.read_text(), "the container counts")

        vm.ctr("task", "pause", container).check()
        assert vm.ctr.tasks()[container] == "PAUSED"
        stands = _after_a_while(vm, count)
        assert stands == _after_a_while(vm, count)
        refused = vm.exec(container, "true")
        assert refused.returncode != 0
        vm.ctr("task", "resume", container).check()

        assert vm.ctr.tasks()[container] == "RUNNING"
        eventually(lambda: count.read_text() not in ("", stands), "the container counts again")
        assert vm.exec(container, "sh", "-c", "exit 3").returncode == 3
    count.unlink()


def _after_a_while(vm: Vm, count: object) -> str:
    """What the shared file says, seen from another container, whose life takes longer than many counts."""
    return vm.run_spec("cat", "/root/count").check().text


def test_a_checkpoint_is_refused_and_the_container_goes_on(vm: Vm) -> None:
    with vm.container() as container:
        refused = vm.ctr("task", "checkpoint", container)

        assert refused.returncode != 0
        assert "checkpoint is not supported" in refused.error_text
        assert vm.exec(container, "echo", "alive").check().text == "alive"


def test_a_paused_container_can_be_killed(vm: Vm) -> None:
    with vm.container() as container:
        vm.ctr("task", "pause", container).check()

        vm.ctr.kill(container).check()

        assert vm.exit_code(container) == 137


async def test_what_is_not_possible_now_is_refused_with_the_code_for_it(vm: Vm) -> None:
    with vm.container() as container:
        async with vm.task() as task:
            await expect_status(Code.FAILED_PRECONDITION, task.start(StartRequest(id=container)))
            await expect_status(Code.FAILED_PRECONDITION, task.delete(DeleteRequest(id=container)))
            await expect_status(Code.FAILED_PRECONDITION, task.resume(ResumeRequest(id=container)))
            await expect_status(Code.NOT_FOUND, task.state(StateRequest(id="nobody")))
            await expect_status(Code.NOT_FOUND, task.wait(WaitRequest(id=container, exec_id="nobody")))

            await task.kill(KillRequest(id=container, signal=9))
            end = await task.wait(WaitRequest(id=container))

            assert end.exit_status == 137
            assert (await task.state(StateRequest(id=container))).status is Status.STOPPED
            await expect_status(Code.NOT_FOUND, task.kill(KillRequest(id=container, signal=9)))
            await expect_status(Code.FAILED_PRECONDITION, task.pause(PauseRequest(id=container)))
            again = await task.wait(WaitRequest(id=container))
            assert again == end


async def test_connect_pids_and_shutdown_of_a_living_pod(vm: Vm) -> None:
    daemon = vm.daemon()
    async with vm.task() as task:
        connected = await task.connect(ConnectRequest(id=""))
        known = await task.connect(ConnectRequest(id=vm.id))
        pids = await task.pids(PidsRequest(id=vm.id))
        await task.shutdown(ShutdownRequest(id=vm.id))

        assert connected.shim_pid == known.shim_pid == daemon.pid
        assert pids.processes[0].pid == known.task_pid
        # The container's own, by numbers that no process of the host has.
        assert pids.processes[1].pid == 10_000_001
        # A pod with a container in it stays.
        assert (await task.state(StateRequest(id=vm.id))).status is Status.RUNNING


async def test_state_answers_at_once_while_the_guest_is_busy(vm: Vm) -> None:
    with vm.container("sh", "-c", "while :; do :; done"):
        async with vm.task() as task:
            slowest = 0.0
            for _ in range(100):
                asked = time.monotonic()
                await task.state(StateRequest(id=vm.id))
                slowest = max(slowest, time.monotonic() - asked)

    assert slowest < 1.0
