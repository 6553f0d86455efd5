"""Whatever a host asks of the agent, it gets an answer or a proper error, and nothing outside its place changes.

The agent runs once, in namespaces of its own; see `fuzz_run` for what is thrown at it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.harness import paths

#: Sequences of up to six requests each; connections full of garbage.
EXAMPLES, CONNECTIONS = 600, 300
#: Seconds for all of it, on a busy machine.
LIMIT = 200
#: The library that makes the requests keeps what it has tried, in the same process.
GROWTH_KIB = 64 * 1024

_UNSHARE = (
    *("unshare", "--user", "--map-root-user", "--mount", "--net", "--ipc", "--uts"),
    *("--pid", "--fork", "--kill-child", "--mount-proc"),
)


def _may_unshare() -> bool:
    return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What the fuzzing showed."""
    if not _may_unshare():
        pytest.skip("this machine does not let the user make namespaces")
    module = "tests.unit.guest_agent.fuzz_run"
    result = subprocess.run(
        [*_UNSHARE, sys.executable, "-m", module, str(EXAMPLES), str(CONNECTIONS)],
        cwd=paths.PROJECT,
        env=os.environ | {"PYTHONPATH": str(paths.PROJECT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_request_is_answered_or_fails_with_a_foreseen_code_in_one_line(seen: dict[str, Any]):
    assert seen["faults"] == []


def test_every_rpc_was_tried_and_some_did_what_they_were_asked(seen: dict[str, Any]):
    assert seen["unasked"] == []
    assert seen["codes"]["OK"] > EXAMPLES // 4
    assert seen["codes"]["INVALID_ARGUMENT"] > EXAMPLES // 4


def test_files_outside_the_agents_directories_are_untouched(seen: dict[str, Any]):
    assert seen["untouched"]


def test_no_mount_appears_or_vanishes_outside_the_agents_directories(seen: dict[str, Any]):
    assert (seen["foreign_mounts"], seen["missing_mounts"]) == ([], [])


def test_a_proper_client_is_answered_after_every_connection_of_garbage(seen: dict[str, Any]):
    assert seen["answered"] == CONNECTIONS


def test_the_agent_does_not_grow_by_what_was_thrown_at_it(seen: dict[str, Any]):
    assert seen["grew_kib"] < GROWTH_KIB
