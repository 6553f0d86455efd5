"""The reaper: whatever detaches stays in sight, and goes when its owner goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.harness import processes
from tests.harness.nursery import Nursery, NurseryError
from tests.harness.waiting import eventually

#: A daemon as a shim is one: a child that outlives its parent in a session of its own.
DAEMON = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\n"


@pytest.fixture
def nursery(tmp_path):
    made = Nursery([sys.executable, "-c", DAEMON], tmp_path / "log", os.environ)
    yield made
    made.close()


def daemon_of(nursery, parent):
    """The detached child, once its parent is gone."""

    def orphan():
        return [one for one in nursery.processes() if one.pid != parent and one.parent == nursery.pid]

    return eventually(orphan, "the daemon is given to the reaper")[0]


def test_a_daemon_that_detached_is_still_a_descendant(nursery):
    parent = nursery.start()

    assert processes.is_alive(daemon_of(nursery, parent).pid)
    assert eventually(lambda: processes.read_process(parent) is None, "the parent is reaped")


def test_closing_kills_what_detached(nursery):
    daemon = daemon_of(nursery, nursery.start())

    nursery.close()

    assert not processes.is_alive(daemon.pid)


def test_each_start_is_a_process_of_its_own(nursery):
    assert nursery.start() != nursery.start()


def test_a_closed_nursery_starts_nothing(nursery):
    nursery.close()

    with pytest.raises(NurseryError):
        nursery.start()


def test_everything_goes_with_an_owner_that_is_killed(tmp_path):
    script = (
        "import sys, os\n"
        "from pathlib import Path\n"
        "from tests.harness.nursery import Nursery\n"
        f"nursery = Nursery([sys.executable, '-c', {DAEMON!r}], Path({str(tmp_path / 'log')!r}), os.environ)\n"
        "nursery.start()\n"
        "print(nursery.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    reaper = int(owner.stdout.readline())
    below = eventually(lambda: processes.descendants([reaper]), "the daemon runs")

    owner.send_signal(signal.SIGKILL)
    owner.communicate()

    assert processes.wait_gone(reaper, timeout=10)
    assert not any(processes.is_alive(one.pid) for one in below)
