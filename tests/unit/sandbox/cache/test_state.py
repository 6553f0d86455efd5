"""Contract: one server has its directory, and what a dead one left there is gone before the next begins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox.cache.state import State, StateError, journals, place_for, record


def test_what_a_dead_server_left_is_removed_with_the_vm_that_still_runs(tmp_path: Path):
    place = tmp_path / "cache"
    left = place / "vm-1"
    left.mkdir(parents=True)
    (place / "claim").touch()
    with subprocess.Popen(["sleep", "100"]) as vm:
        record(left, vm.pid, {"origin": "cold"})
        state = State.open(place)
        assert vm.wait(10) == -9
    assert sorted(path.name for path in place.iterdir()) == ["lock"]
    state.close()
    assert not place.exists()


def test_a_process_that_is_another_one_is_left_alone(tmp_path: Path):
    left = tmp_path / "cache" / "vm-1"
    left.mkdir(parents=True)
    with subprocess.Popen(["sleep", "100"]) as other:
        record(left, other.pid, {})
        text = (left / "vm.json").read_text()
        (left / "vm.json").write_text(text.replace('"start_time": ', '"start_time": 1'))
        State.open(tmp_path / "cache").close()
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "1"}', '{"pid": 1}', '{"pid": -1}', '{"pid": 999999999}'])
def test_a_journal_that_makes_no_sense_is_removed(tmp_path: Path, text: str):
    left = tmp_path / "cache" / "vm-1"
    left.mkdir(parents=True)
    (left / "vm.json").write_text(text)
    state = State.open(tmp_path / "cache")
    assert not left.exists()
    state.close()


def test_a_second_server_is_refused(tmp_path: Path):
    state = State.open(tmp_path / "cache")
    with pytest.raises(StateError, match="runs for this endpoint"):
        State.open(tmp_path / "cache")
    state.close()
    State.open(tmp_path / "cache").close()


def test_the_status_of_each_vm_is_in_its_journal(tmp_path: Path):
    state = State.open(tmp_path / "cache")
    record(state.add("vm-1"), 7, {"origin": "template"})
    state.add("vm-2")
    (found,) = journals(state.path)
    assert (found["pid"], found["origin"]) == (7, "template")
    assert found["created"] > 0
    state.close()


def test_an_endpoint_has_one_directory_however_it_is_spelled(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert place_for(tmp_path / "link" / "s") == place_for(tmp_path / "s") != place_for(tmp_path / "t")
