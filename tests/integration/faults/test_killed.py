"""kill -9 of whatever a sandbox consists of: containerd hears of it at once, and nothing stands in the way afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import bundles
from tests.harness.ctr import Ctr
from tests.harness.waiting import eventually
from tests.integration.faults.conftest import PidOf
from tests.integration.faults.events import watch
from tests.integration.faults.measured import Measured

pytestmark = pytest.mark.integration

#: The issue asks for 1 s; two shared cores with an emulated guest need a margin.
PATIENCE = 3.0
#: What a process ends with when its machine goes.
KILLED = 137

#: Ends the guest's kernel, and the agent with it.
_CRASH = "echo c >/proc/sysrq-trigger"

#: Ends the agent alone. As process 1 it is immune to signals from within, SIGKILL too (pid_namespaces(7)), but not to a
#: fault of its own: with its stack zeroed it returns to address 0, and the kernel panics with "Attempted to kill init!".
_KILL_AGENT = """
stack=$(sed -n 's/-.*\\[stack\\]$//p' /proc/1/maps)
dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((0x$stack / 4096)) count=64 conv=notrunc
sleep 1000
"""


def _pod_program(script: str) -> dict[str, Any]:
    """The spec of a container that may do all in its guest: no pid namespace of its own, every capability needed."""
    spec = bundles.spec(["sh", "-c", f"sleep 1; {script}; sleep 1000"])
    spec["process"]["capabilities"] = dict.fromkeys(
        ("bounding", "effective", "permitted"), ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_RAWIO"]
    )
    spec["linux"]["namespaces"] = [{"type": kind} for kind in ("ipc", "uts", "mount")]
    return spec


@pytest.mark.parametrize("victim", ["qemu", "virtiofsd"])
def test_a_killed_helper_ends_the_sandbox(ctr: Ctr, pid_of: PidOf, measured: Measured, victim: str) -> None:
    with watch(ctr) as events:
        ctr.run_detached("c1", "sleep", "1000")
        with ctr.background("task", "exec", "--exec-id", "e1", "c1", "sleep", "1000") as client:
            events.expect("/tasks/exec-started", "e1")
            killed_at = time.monotonic()

            os.kill(pid_of(victim, "c1"), signal.SIGKILL)

            exited = events.expect("/tasks/exit", "c1", PATIENCE)
            assert client.wait(PATIENCE) == KILLED
    measured.note(f"exit seen after kill -9 of {victim}", exited.seen - killed_at)
    assert exited.data["exit_status"] == KILLED
    _assert_stopped_and_gone(ctr)
    _assert_the_id_works_again(ctr)


@pytest.mark.parametrize(("what", "script"), [("the agent", _KILL_AGENT), ("the guest's kernel", _CRASH)])
def test_a_guest_that_dies_from_within_ends_the_sandbox(
    ctr: Ctr, measured: Measured, tmp_path: Path, rootfs: Path, what: str, script: str
) -> None:
    spec = _pod_program("true")
    spec["root"]["path"] = str(rootfs)
    (tmp_path / "config.json").write_text(json.dumps(spec))

    with watch(ctr) as events:
        arguments = [word for word in ctr.run_arguments("c1", options=("--detach", "--config", str(tmp_path / "config.json"))) if "busybox" not in word]
        ctr(*arguments).check()
        with ctr.background("task", "exec", "--exec-id", "e1", "c1", "sh", "-c", script) as client:
            events.expect("/tasks/exec-started", "e1")
            killed_at = time.monotonic()
            exited = events.expect("/tasks/exit", "c1", PATIENCE)
            assert client.wait(PATIENCE) == KILLED
    measured.note(f"exit seen after {what} was ended", exited.seen - killed_at)
    assert exited.data["exit_status"] == KILLED
    _assert_stopped_and_gone(ctr)


def _assert_stopped_and_gone(ctr: Ctr) -> None:
    assert ctr.tasks()["c1"] == "STOPPED"
    deleted = ctr.delete("c1")
    assert f"exit code {KILLED}" in deleted.error_text
    assert ctr("container", "delete", "c1").returncode == 0


def _assert_the_id_works_again(ctr: Ctr) -> None:
    again = ctr.run("c1", "sh", "-c", "exit 3")
    assert again.returncode == 3, again.error_text
