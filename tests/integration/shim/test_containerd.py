"""The shim under a real containerd, with a fake pod: what containerd and ctr make of its answers."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import anyio
import pytest

from protos.gen.containerd.task.v2 import KillRequest, WaitRequest
from shim.sockets import from_address
from tests.harness import shim_binary
from tests.harness.waiting import eventually
from tests.integration.shim.conftest import FakeRuntime

pytestmark = pytest.mark.integration


def _bundle(runtime: FakeRuntime, container_id: str) -> Path:
    return runtime.root / "state" / "io.containerd.runtime.v2.task" / "default" / container_id


def test_a_foreground_run_prints_and_returns_the_exit_code(runtime: FakeRuntime) -> None:
    done = runtime.run("c1", "echo", "hello", "world")
    assert (done.returncode, done.text) == (0, "hello world"), done.error_text

    assert runtime.run("c2", "exit", "42").returncode == 42
    assert runtime.run("c3", "nonsense").returncode == 127
    assert runtime.place.daemons() == []


def test_input_reaches_the_process_and_ends(runtime: FakeRuntime) -> None:
    data = os.urandom(200_000).hex().encode()

    done = runtime.run("c1", "cat", stdin=data)

    assert done.returncode == 0, done.error_text
    assert done.stdout == data


def test_a_detached_task_is_seen_killed_and_deleted(runtime: FakeRuntime) -> None:
    runtime.run("c1", "sleep", options=("-d", "--null-io")).check()
    assert runtime.status("c1") == "RUNNING"
    assert runtime.ctr("task", "ps", "c1").check().text.splitlines()[1].split()[0] == "4242"
    assert runtime.ctr("task", "exec", "--exec-id", "e1", "c1", "exit", "5").returncode == 5

    runtime.ctr("task", "kill", "-s", "SIGKILL", "c1").check()
    runtime.wait_for_status("c1", "STOPPED")
    assert "exit code 137" in runtime.ctr("task", "rm", "c1").check().error_text

    runtime.place.wait_until_gone()
    eventually(lambda: not _bundle(runtime, "c1").exists(), "the bundle is gone")


def test_pause_resume_metrics_and_the_refused_checkpoint(runtime: FakeRuntime) -> None:
    runtime.run("c1", "sleep", options=("-d", "--null-io")).check()

    runtime.ctr("task", "pause", "c1").check()
    assert runtime.status("c1") == "PAUSED"
    runtime.ctr("task", "resume", "c1").check()
    assert "7000000" in runtime.ctr("task", "metrics", "--format", "json", "c1").check().text
    refused = runtime.ctr("task", "checkpoint", "c1")
    assert refused.returncode != 0


def test_containerds_own_shim_client_finds_the_socket(runtime: FakeRuntime) -> None:
    runtime.run("c1", "sleep", options=("-d", "--null-io")).check()

    state = json.loads(runtime.ctr("shim", "--id", "c1", "state").check().text)

    assert (state["id"], state["pid"], state["status"]) == ("c1", 4242, 2)


def test_a_create_that_fails_shows_its_cause_and_leaves_nothing(runtime: FakeRuntime) -> None:
    (runtime.root / "fifo").mkdir()

    done = runtime.ctr(
        "run",
        "--runtime",
        "io.containerd.kata.v2",
        "--rootfs",
        "--log-uri",
        "http://nowhere/x",
        str(runtime.root / "rootfs"),
        "c1",
        "sleep",
    )

    assert done.returncode != 0
    runtime.place.wait_until_gone()
    eventually(lambda: not _bundle(runtime, "c1").exists(), "the bundle is gone")


def test_a_log_file_gets_the_output(runtime: FakeRuntime) -> None:
    log = runtime.root / "logs" / "x.log"

    runtime.run("c1", "echo", "to the file", options=("--rm", "--log-uri", f"file://{log}")).check()

    assert log.read_text() == "to the file\n"


def test_a_task_outlives_a_restart_of_containerd(runtime: FakeRuntime) -> None:
    runtime.run("c1", "sleep", options=("-d", "--null-io")).check()
    daemon = runtime.place.daemon()

    runtime.containerd.restart()

    assert runtime.status("c1") == "RUNNING"
    assert runtime.place.daemons() == [daemon]
    runtime.ctr("task", "kill", "-s", "SIGKILL", "c1").check()
    runtime.wait_for_status("c1", "STOPPED")


def test_an_exit_during_containerds_absence_is_known_afterwards(runtime: FakeRuntime) -> None:
    runtime.run("c1", "sleep", options=("-d", "--null-io")).check()
    address = (_bundle(runtime, "c1") / "address").read_text()
    runtime.containerd.kill()

    async def kill() -> None:
        async with shim_binary.connect(address) as client:
            await client.kill(KillRequest(id="c1", signal=9))
            await client.wait(WaitRequest(id="c1"))

    anyio.run(kill)
    runtime.containerd.start()

    runtime.wait_for_status("c1", "STOPPED")
    assert "exit code 137" in runtime.ctr("task", "rm", "c1").check().error_text


def test_a_killed_daemon_is_cleaned_up_within_containerds_patience(runtime: FakeRuntime) -> None:
    runtime.run("c1", "sleep", options=("-d", "--null-io")).check()
    socket = from_address((_bundle(runtime, "c1") / "address").read_text())
    started = time.monotonic()

    os.kill(runtime.place.daemon(), signal.SIGKILL)

    runtime.wait_for_status("c1", "")
    assert time.monotonic() - started < 5
    eventually(lambda: not _bundle(runtime, "c1").exists(), "the bundle is gone")
    assert not os.path.exists(socket)


def test_ten_tasks_in_turn_leave_no_descriptor_in_containerd(runtime: FakeRuntime) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{runtime.containerd.pid}/fd"))

    runtime.run("warm", "exit", "0")
    before = descriptors()

    for number in range(10):
        assert runtime.run(f"c{number}", "exit", "0").returncode == 0

    eventually(lambda: descriptors() <= before, "containerd holds no more descriptors than before")
