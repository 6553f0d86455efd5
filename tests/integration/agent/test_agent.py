"""The way to a live guest's agent: nothing that comes in by the port takes the agent down.

The scenario is run once, in a mount namespace of its own.
"""

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
from tests.integration.agent import port_scenario

pytestmark = pytest.mark.integration


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
def port(scratch: Path) -> dict[str, Any]:
    """What a guest showed whose port was abused."""
    return run("tests.integration.agent.port_scenario", scratch / "port")


@pytest.mark.parametrize("abuse", [how.__name__ for how in port_scenario.ABUSES])
def test_the_agent_answers_a_proper_host_after(port: dict[str, Any], abuse: str):
    assert port[abuse] < port_scenario.PATIENCE


def test_the_agent_does_not_grow_by_what_was_thrown_at_it(port: dict[str, Any]):
    assert port["agent_grew_kib"] < 8 * 1024
    assert "kata-agent failed" not in port["console"]
