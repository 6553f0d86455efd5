"""The way to a live guest's agent: streams are whole over dropped connections, and nothing that comes in by the port
takes the agent down. Each scenario is run once, in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import paths
from tests.integration.agent import port_scenario, reconnect_scenario

pytestmark = pytest.mark.integration

MIB = 1 << 20
#: A connection made again to an agent that is there takes milliseconds; a machine that is busy with other tests may
#: take seconds. What needs a second attempt takes longer than this.
RECONNECT_SECONDS = 2.0
#: How often the pod's connection is lost: fewer times than the keeper takes for a hostile guest.
LOSSES = 4 + reconnect_scenario.DROPS


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A directory whose path leaves room for the names of sockets."""
    path = Path(tempfile.mkdtemp(prefix="agent-"))
    yield path
    shutil.rmtree(path)


def run(module: str, directory: Path) -> dict[str, Any]:
    """What a scenario printed."""
    directory.mkdir()
    result = subprocess.run(
        ["unshare", "--mount", "--propagation", "slave", "--", sys.executable, "-m", module, directory],
        cwd=paths.PROJECT,
        env=os.environ | {"PYTHONPATH": str(paths.PROJECT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    seen: dict[str, Any] = json.loads(result.stdout)
    return seen | {"log": result.stderr}


@pytest.fixture(scope="module")
def pod(scratch: Path) -> dict[str, Any]:
    """What a pod showed whose agent's connection was dropped again and again."""
    seen = run("tests.integration.agent.reconnect_scenario", scratch / "pod")
    seen["left"] = [path.name for path in (scratch / "pod" / "run").iterdir()]
    return seen


@pytest.fixture(scope="module")
def port(scratch: Path) -> dict[str, Any]:
    """What a guest showed whose port was abused."""
    return run("tests.integration.agent.port_scenario", scratch / "port")


@pytest.mark.parametrize("name", ["bulk", "bulk_dropped"])
def test_20_mib_in_and_out_have_the_right_checksum(pod: dict[str, Any], name: str):
    stream = pod[name]
    assert (stream["status"], stream["bytes"], stream["undropped"]) == (0, 20 * MIB, 0)
    assert stream["received"] == stream["sent"]


def test_8_mib_of_a_process_that_exits_at_once_all_arrive(pod: dict[str, Any]):
    assert pod["burst"] == {"status": 0, "bytes": 8 * MIB, "right": True}


def test_a_grandchild_does_not_hold_back_the_exit_and_its_output_is_not_cut(pod: dict[str, Any]):
    seen = pod["grandchild"]
    assert (seen["status"], seen["early"], seen["all"]) == (0, "early\n", "early\nlate\n")


def test_a_call_under_way_is_told_of_the_loss_and_the_next_one_waits_for_the_new_connection(pod: dict[str, Any]):
    assert pod["pending"]["lost"]
    assert "agent WaitProcess: UNAVAILABLE: ttrpc: closed" in pod["pending"]["error"]
    assert pod["pending"]["restored_s"] < RECONNECT_SECONDS


def test_calls_wait_while_the_connection_is_stalled_and_then_go_on(pod: dict[str, Any]):
    assert pod["stalled"] == {"early": 0, "status": 3, "output": "through\n"}


def test_execs_under_way_when_the_connection_goes_end_with_their_own_status_and_all_their_output(pod: dict[str, Any]):
    assert pod["execs"]["statuses"] == [0, 1, 2, 10, 11, 12]
    assert pod["execs"]["outputs"] == ["line-0\n", "line-1\n", "line-2\n", "slow-0\n", "slow-1\n", "slow-2\n"]


def test_an_oom_kill_after_all_that_is_told(pod: dict[str, Any]):
    assert pod["oom"] == {"status": 137, "events": 1}


def test_the_vm_lived_through_it_and_nothing_is_left_of_it(pod: dict[str, Any]):
    assert pod["same_vm"]
    assert pod["left"] == []
    assert pod["log"].count("made again after") == LOSSES


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_agent_is_reached_through_vsock_on_both_event_loops(pod: dict[str, Any], loop: str):
    assert pod["vsock"]["status"] == 0, pod["vsock"]
    seen = pod["vsock"][loop]
    assert all(seen["version"])
    assert seen["metrics"] > 1000
    assert "vsock://1:1023: no answer in 0.5 s: Connection reset by peer" in seen["refused"]


@pytest.mark.parametrize("abuse", [how.__name__ for how in port_scenario.ABUSES])
def test_the_agent_answers_a_proper_host_after(port: dict[str, Any], abuse: str):
    assert port[abuse] < port_scenario.PATIENCE


def test_the_agent_does_not_grow_by_what_was_thrown_at_it(port: dict[str, Any]):
    assert port["agent_grew_kib"] < 8 * 1024
    assert "kata-agent failed" not in port["console"]


def test_the_agent_is_reached_through_hybrid_vsock_and_again_after_a_loss(port: dict[str, Any]):
    seen = port["hybrid"]
    assert "no answer in 0.5 s" in seen.pop("refused")
    # Positions become known with the first connection that is made again.
    assert seen == {"version": True, "positions": False, "positions_again": True, "connections": 2}
