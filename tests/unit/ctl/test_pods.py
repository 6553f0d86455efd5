"""Pods by their run directories, whatever state these are in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctl.errors import CtlError
from ctl.pods import find, find_all
from tests.unit.ctl.conftest import MakePod


def test_no_directory_is_no_pods(root: Path) -> None:
    assert find_all(root / "missing") == []


def test_a_running_pod(make_pod: MakePod) -> None:
    make_pod("c1")

    [pod] = find_all()

    assert (pod.id, pod.namespace, pod.state, pod.pid) == ("c1", "k8s.io", "running", os.getpid())


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"started": None}, "starting"),
        ({"processes": {"daemon": {"pid": os.getpid(), "start_time": 1}}}, "dead"),
        ({"processes": {}}, "dead"),
        ({"processes": [1]}, "dead"),
        ({"processes": {"daemon": None, "qemu": {"pid": "1"}, "x": {"pid": -1}}}, "dead"),
    ],
)
def test_the_state_is_that_of_the_processes(make_pod: MakePod, facts: dict[str, object], state: str) -> None:
    make_pod("c1", **facts)

    assert find("c1").state == state


def test_a_pod_whose_vm_has_ended_is_lost(make_pod: MakePod) -> None:
    journal = make_pod("c0").journal
    make_pod("c1", processes={"daemon": journal["processes"]["daemon"]})

    assert find("c1").state == "lost"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"sandbox_id": 3, "namespace": {}, "started": {"start": []}}', "\xff"]
)
def test_a_half_written_journal_is_a_dead_pod_named_by_its_directory(make_pod: MakePod, text: str) -> None:
    run_dir = make_pod("c1").run_dir
    (run_dir / "state.json").write_bytes(text.encode("latin-1"))

    [pod] = find_all()

    assert (pod.id, pod.state, pod.facts("start")) == ("c1", "dead", {})


def test_a_directory_that_no_shim_made_is_no_pod(root: Path, make_pod: MakePod) -> None:
    (root / "c2").mkdir()
    (root / "file").touch()
    make_pod("c1")

    assert [pod.id for pod in find_all()] == ["c1"]


def test_a_pod_is_found_by_id_by_its_directory_and_by_how_it_begins(make_pod: MakePod) -> None:
    make_pod("abc1")
    make_pod("abc12")

    assert [find(wanted).id for wanted in ("abc1", "abc12-00000001", "abc12")] == ["abc1", "abc12", "abc12"]


def test_the_same_id_twice_is_told_by_directory(make_pod: MakePod) -> None:
    make_pod("c1")
    make_pod("c1", mark="00000002", namespace="other")

    with pytest.raises(CtlError, match="more than one sandbox") as caught:
        find("c1")

    assert {"c1-00000001", "c1-00000002"} <= set(str(caught.value).split())
    assert find("c1-00000002").namespace == "other"


def test_an_unknown_pod_says_what_to_do(make_pod: MakePod) -> None:
    make_pod("c1")

    for wanted in ("c2", ""):
        with pytest.raises(CtlError, match="kata-ctl list"):
            find(wanted)


def test_text_in_a_journal_is_one_printable_line(make_pod: MakePod) -> None:
    make_pod("c1", namespace="x\n\x1by")

    assert find("c1").namespace == "x??y"
