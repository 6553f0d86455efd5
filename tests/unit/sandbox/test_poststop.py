"""`poststop` hooks that a killed daemon left: each is run once, in time, and told of when it fails."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from sandbox import cleanup, poststop
from sandbox.interface import CreateRequest
from sandbox.rundir import RunDirectory
from tests.fakes.world import PATIENCE, World


def noted(run_dir: Path, container: str, *scripts: str, bundle: str = "/") -> None:
    """Leave hooks that run these scripts."""
    hooks = [{"command": ["/bin/sh", "-c", script], "environment": {"PATH": "/usr/bin:/bin"}} for script in scripts]
    poststop.note(run_dir, container, {"bundle": bundle, "state": {"id": container}, "hooks": hooks})


def test_they_run_in_order_with_the_state_and_only_for_the_first_who_takes_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    noted(tmp_path, "c1", f"cat >> {log}", f"pwd >> {log}", bundle=str(tmp_path))

    left = poststop.take(tmp_path)

    assert poststop.take(tmp_path) == []
    assert poststop.run(left) == []
    state, _, directory = log.read_text().partition("}")
    assert json.loads(state + "}") == {"id": "c1"}
    assert directory.strip() == str(tmp_path)


def test_what_the_daemon_has_run_is_not_left(tmp_path: Path) -> None:
    noted(tmp_path, "c1", "true")
    poststop.forget(tmp_path, "c1")
    poststop.forget(tmp_path, "c1")
    assert poststop.take(tmp_path) == []


def test_a_failure_is_one_line_and_the_next_hook_runs_all_the_same(tmp_path: Path) -> None:
    noted(tmp_path, "c1", "exit 3", f"touch {tmp_path}/next", bundle="/no/such/bundle")
    poststop.note(tmp_path, "c2", {"bundle": "/", "state": {}, "hooks": [{"command": ["/none"], "environment": {}}]})

    problems = poststop.run(poststop.take(tmp_path))

    assert problems[1] == "poststop hook /bin/sh ended with 3"
    assert problems[0].startswith("poststop hook /none: ")
    assert (tmp_path / "next").exists()


def test_they_end_in_time_with_all_that_they_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poststop, "TIMEOUT", 0.3)
    pids = tmp_path / "pids"
    noted(tmp_path, "c1", f"sleep 1000 & echo $! > {pids}; wait", f"touch {tmp_path}/late")
    noted(tmp_path, "c2", f"touch {tmp_path}/beside")

    problems = poststop.run(poststop.take(tmp_path))

    assert problems == ["poststop hook /bin/sh did not end within 0.3 s, and was killed"]
    assert (tmp_path / "beside").exists()
    assert not (tmp_path / "late").exists()
    child = Path("/proc", pids.read_text().strip(), "stat")
    deadline = time.monotonic() + PATIENCE
    # A zombie, whose parent has gone, is nobody's any more.
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline


@pytest.mark.parametrize("text", ["", "[]", "{", '{"hooks": []}'])
def test_a_broken_note_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "poststop").mkdir()
    (tmp_path / "poststop" / "c1").write_text(text)
    assert poststop.take(tmp_path) == []


def test_delete_runs_them_and_removes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunDirectory.create(tmp_path / "s", {}).release()
    noted(tmp_path / "s", "c1", f"touch {tmp_path}/ran; exit 1")

    cleanup.clean(tmp_path / "s")
    cleanup.clean(tmp_path / "s")

    assert (tmp_path / "ran").exists()
    assert not (tmp_path / "s").exists()
    assert capsys.readouterr().err == "poststop hook /bin/sh ended with 1\n"


@pytest.mark.anyio
async def test_they_are_noted_while_a_container_is_there_and_no_longer(world: World, tmp_path: Path) -> None:
    notes = world.sandbox.pod.directory.path / "poststop"
    seen = f"ls {notes} > {tmp_path}/seen"
    hook = {"path": "/bin/sh", "args": ["/bin/sh", "-c", seen], "env": ["PATH=/usr/bin:/bin"]}
    request: CreateRequest = world.bundle("c1", hooks={"prestart": [hook], "poststop": [hook]})
    world.agent.on_start("c1", exit_code=0)

    await world.sandbox.create(request, PATIENCE)
    assert (tmp_path / "seen").read_text() == "c1\n"
    (left,) = [json.loads((notes / name).read_text()) for name in os.listdir(notes)]
    await world.sandbox.start("c1", "")
    await world.sandbox.wait("c1", "")
    await world.sandbox.delete("c1", "")

    state = {"ociVersion": "1.0.2", "id": "c1", "status": "stopped", "bundle": str(request.bundle), "annotations": {}}
    hooks = [{"command": hook["args"], "environment": {"PATH": "/usr/bin:/bin"}}]
    assert left == {"state": state, "bundle": str(request.bundle), "hooks": hooks}
    assert (tmp_path / "seen").read_text() == ""
