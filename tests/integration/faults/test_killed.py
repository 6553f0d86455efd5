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

#: A fresh proc, since a container's own has these files masked or read-only.
_PROC = "mount -t proc proc /tmp && cd /tmp && "

#: Ends the guest's kernel, and the agent with it.
_CRASH = _PROC + "echo c >sysrq-trigger; sleep 1000"

#: Ends the agent alone, which is out of reach for containers: they never share its pid namespace, and as process 1 it is
#: immune even to a SIGKILL from its own (pid_namespaces(7)). What the kernel runs for a core dump can write its memory.
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
    ctr: Ctr, measured: Measured, tmp_path: Path, what: str, script: str
) -> None:
    (tmp_path / "agent.py").write_text(_AGENT_PY)
    options = ("--cap-add", "CAP_SYS_ADMIN", "--mount", f"type=bind,src={tmp_path},dst=/fault,options=rbind:ro")
    with watch(ctr) as events:
        ctr.run_detached("c1", "sleep", "1000", options=options)
        with ctr.background("task", "exec", "--exec-id", "e1", "c1", "sh", "-c", script) as client:
            events.expect("/tasks/exec-started", "e1")
            killed_at = time.monotonic()

            exited = events.expect("/tasks/exit", "c1", PATIENCE)

            assert client.wait(PATIENCE) == KILLED
    measured.note(f"exit seen after {what} was ended", exited.seen - killed_at)
    assert exited.data["exit_status"] == KILLED
    _assert_stopped_and_gone(ctr)
    _assert_the_id_works_again(ctr)


def _assert_stopped_and_gone(ctr: Ctr) -> None:
    assert ctr.tasks()["c1"] == "STOPPED"
    deleted = ctr.delete("c1")
    assert f"exit code {KILLED}" in deleted.error_text
    assert ctr("container", "delete", "c1").returncode == 0


def _assert_the_id_works_again(ctr: Ctr) -> None:
    again = ctr.run("c1", "sh", "-c", "exit 3")
    assert again.returncode == 3, again.error_text
