"""kill -9 of whatever a sandbox consists of: containerd hears of it at once, and nothing is in the way afterwards."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from protos.gen.runtime.v1 import PodSandboxState
from tests.harness import processes
from tests.harness.bed import Bed
from tests.harness.cri import Cri
from tests.harness.ctr import Ctr
from tests.harness.events import watch
from tests.harness.phases import LogReader
from tests.harness.waiting import eventually, eventually_async
from tests.integration.faults.conftest import PidOf
from tests.integration.faults.measured import Measured

pytestmark = pytest.mark.integration

#: The issue asks for 1 s; two shared cores with an emulated guest need a margin.
PATIENCE = 3.0
#: What a process ends with when its machine goes, and what containerd says when it can't know.
KILLED, UNKNOWN = 137, 255

#: A fresh proc, since a container's own has these files masked or read-only.
_PROC = "mount -t proc proc /tmp && cd /tmp && "

#: Ends the guest's kernel, and the agent with it.
_CRASH = _PROC + "echo c >sysrq-trigger; sleep 1000"

#: Ends the agent alone, which is out of reach for containers: they never share its pid namespace, and as process 1 it
#: is immune even to a SIGKILL from its own (pid_namespaces(7)). What the kernel runs for a core dump can write to its
#: memory.
_KILL_AGENT = (
    _PROC + "echo '|/usr/bin/python3 /proc/%P/root/fault/agent.py' >sys/kernel/core_pattern && "
    "sh -c 'kill -SEGV $$'; sleep 1000"
)

#: With its stack zeroed, process 1 faults as soon as it wakes up, and a fault is a signal that it can't ignore.
_AGENT_PY = """
import re

with open("/proc/1/maps") as maps:
    start, end = (int(word, 16) for word in re.search(r"^(\\w+)-(\\w+) .*\\[stack\\]$", maps.read(), re.M).groups())
with open("/proc/1/mem", "r+b", buffering=0) as memory:
    memory.seek(start)
    memory.write(bytes(end - start))
"""


@pytest.mark.parametrize(
    ("victim", "cause"), [("qemu", "QEMU was killed by SIGKILL"), ("virtiofsd", "virtiofsd was killed by SIGKILL")]
)
def test_a_killed_helper_ends_the_sandbox(
    bed: Bed, ctr: Ctr, pid_of: PidOf, measured: Measured, victim: str, cause: str
) -> None:
    log = LogReader(bed.containerd.log)
    with watch(ctr) as events:
        ctr.run_detached("c1", "sleep", "1000")
        with ctr.background("task", "exec", "--exec-id", "e1", "c1", "sleep", "1000") as client:
            events.expect("/tasks/exec-started", "e1")
            killed_at = time.monotonic()

            os.kill(pid_of(victim, "c1"), signal.SIGKILL)

            exited = events.expect("/tasks/exit", "c1", PATIENCE)
            assert client.wait(PATIENCE) == KILLED
    measured.note(f"kill -9 of {victim} to the exit event", exited.seen - killed_at)
    assert exited.data["exit_status"] == KILLED
    _assert_cause(log, cause)
    _assert_stopped_and_gone(ctr)
    _assert_the_id_works_again(ctr)


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        pytest.param(_KILL_AGENT, "Attempted to kill init", id="agent"),
        pytest.param(_CRASH, "sysrq triggered crash", id="kernel"),
    ],
)
def test_a_guest_that_dies_from_within_ends_the_sandbox(
    bed: Bed, ctr: Ctr, pid_of: PidOf, measured: Measured, tmp_path: Path, script: str, cause: str
) -> None:
    (tmp_path / "agent.py").write_text(_AGENT_PY)
    options = ("--cap-add", "CAP_SYS_ADMIN", "--mount", f"type=bind,src={tmp_path},dst=/fault,options=rbind:ro")
    log = LogReader(bed.containerd.log)
    with watch(ctr) as events:
        ctr.run_detached("c1", "sleep", "1000", options=options)
        qemu = pid_of("qemu", "c1")

        with ctr.background("task", "exec", "--exec-id", "e1", "c1", "sh", "-c", script) as client:
            assert processes.wait_gone(qemu, timeout=20), "the guest is still there"
            died_at = time.monotonic()

            exited = events.expect("/tasks/exit", "c1", PATIENCE)
            assert client.wait(PATIENCE) == KILLED
    measured.note(f"death of the guest ({cause}) to the exit event", exited.seen - died_at)
    assert exited.data["exit_status"] == KILLED
    _assert_cause(log, cause)
    _assert_stopped_and_gone(ctr)
    _assert_the_id_works_again(ctr)


def test_a_killed_daemon_ends_the_sandbox(ctr: Ctr, pid_of: PidOf, measured: Measured, tmp_path: Path) -> None:
    # The FIFOs are ctr's, which leaves them behind when it fails.
    run = ctr.run_arguments("c1", "sleep", "1000", options=("--fifo-dir", str(tmp_path)))
    with watch(ctr) as events, ctr.background(*run) as client:
        events.expect("/tasks/start", "c1", timeout=60)
        pids = [pid_of(name, "c1") for name in ("qemu", "virtiofsd", "daemon")]
        killed_at = time.monotonic()

        os.kill(pids[-1], signal.SIGKILL)

        exited = events.expect("/tasks/exit", "c1", PATIENCE)
        # ctr has lost the connection that it waited on, and says so with a status of its own.
        assert client.wait(PATIENCE) != 0
    measured.note("kill -9 of the daemon to the exit event", exited.seen - killed_at)
    assert exited.data["exit_status"] in (KILLED, UNKNOWN)
    assert [processes.wait_gone(pid, PATIENCE) for pid in pids] == [True, True, True]
    eventually(lambda: "c1" not in ctr.tasks(), "containerd has forgotten the task", PATIENCE)
    assert ctr("container", "delete", "c1").returncode == 0
    _assert_the_id_works_again(ctr)


@pytest.mark.parametrize("victim", ["qemu", "daemon"])
async def test_a_pod_dies_as_one_and_can_be_removed(cri: Cri, pid_of: PidOf, measured: Measured, victim: str) -> None:
    pod = await cri.run_pod("p1")
    containers = [await cri.run(pod, name, "sleep", "1000") for name in ("a", "b")]
    killed_at = time.monotonic()

    os.kill(pid_of(victim, pod.id, "k8s.io"), signal.SIGKILL)

    ends = [await cri.wait_exit(container, PATIENCE) for container in containers]
    measured.note(f"kill -9 of a pod's {victim} to both exits in CRI", time.monotonic() - killed_at)
    assert {end.exit_code for end in ends} <= {KILLED, UNKNOWN}

    async def not_ready() -> bool:
        return (await cri.pod_status(pod)).state == PodSandboxState.SANDBOX_NOTREADY

    await eventually_async(not_ready, "CRI knows that the pod is down", PATIENCE)
    for container in containers:
        await cri.remove(container)
    await cri.stop_pod(pod)
    await cri.remove_pod(pod)


def _assert_cause(log: LogReader, cause: str) -> None:
    """The shim's log says, once, why the sandbox died; it takes a moment to arrive."""
    losses: list[str] = []

    def is_told() -> bool:
        losses.extend(line for line in log.new_lines() if "the VM is lost" in line)
        return bool(losses)

    eventually(is_told, "the log has a cause", PATIENCE)
    assert len(losses) == 1
    assert cause in losses[0]


def _assert_stopped_and_gone(ctr: Ctr) -> None:
    assert ctr.tasks()["c1"] == "STOPPED"
    assert f"exit code {KILLED}" in ctr.delete("c1").error_text
    assert ctr("container", "delete", "c1").returncode == 0


def _assert_the_id_works_again(ctr: Ctr) -> None:
    again = ctr.run("c1", "sh", "-c", "exit 3")
    assert again.returncode == 3, again.error_text
