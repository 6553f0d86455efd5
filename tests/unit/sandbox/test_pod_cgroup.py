"""Contract: a process enters the pod's cgroup in every hierarchy that counts, and leaves nothing."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from sandbox import cleanup
from sandbox.cgroup_removal import remove_cgroups
from sandbox.errors import FailedPreconditionError
from sandbox.resources import pod_cgroup
from sandbox.resources.hierarchies import Hierarchy, HostCgroups, find
from sandbox.resources.pod_cgroup import PodCgroup
from sandbox.rundir import RunDirectory

HYBRID = """\
24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
26 24 0:24 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
27 24 0:25 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
28 24 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
UNIFIED = "24 1 0:22 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
OWN = "4:cpu,cpuacct:/system.slice/containerd.service\n3:cpuset:/\n1:name=systemd:/a\n0::/system.slice/c.service\n"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", {})


def test_a_hybrid_host_is_one_of_version_1():
    assert find(HYBRID) == (
        Hierarchy(Path("/sys/fs/cgroup/cpu,cpuacct"), frozenset({"cpu", "cpuacct"})),
        Hierarchy(Path("/sys/fs/cgroup/cpuset"), frozenset({"cpuset"})),
        Hierarchy(Path("/sys/fs/cgroup/systemd"), frozenset({"name=systemd"})),
    )


def test_a_unified_host_has_one_hierarchy():
    assert find(UNIFIED) == (Hierarchy(Path("/sys/fs/cgroup")),)


def test_a_host_without_cgroups_is_told():
    with pytest.raises(ValueError, match="no cgroup hierarchy"):
        find("24 1 0:22 / / rw - ext4 /dev/sda rw\n")


@pytest.mark.parametrize(
    ("controllers", "path"),
    [
        ({"cpu", "cpuacct"}, "system.slice/containerd.service"),
        ({"cpuset"}, ""),
        ({"name=systemd"}, "a"),
        ((), "system.slice/c.service"),
        ({"pids"}, ""),
    ],
)
def test_where_a_process_is_now(controllers, path):
    assert Hierarchy(Path("/x"), frozenset(controllers)).current(OWN) == path


def test_a_new_cpuset_gets_the_cpus_of_its_parent(tmp_path: Path):
    (tmp_path / "pods" / "one").mkdir(parents=True)
    for place, text in ((tmp_path, "0-3"), (tmp_path / "pods", ""), (tmp_path / "pods" / "one", "")):
        (place / "cpuset.cpus").write_text(text)
        (place / "cpuset.mems").write_text("0" if text else "\n")

    Hierarchy(tmp_path, frozenset({"cpuset"})).enter("pods/one", 7)

    assert (tmp_path / "pods" / "one" / "cpuset.cpus").read_text() == "0-3"
    assert (tmp_path / "pods" / "one" / "cpuset.mems").read_text() == "0"
    assert (tmp_path / "pods" / "one" / "cgroup.procs").read_text() == "7"


def test_it_is_journalled_entered_and_left(tmp_path: Path, directory: RunDirectory):
    home = tmp_path / "system.slice" / "c.service"
    home.mkdir(parents=True)
    cgroup = PodCgroup("pods/one", HostCgroups((Hierarchy(tmp_path),), OWN))

    cgroup.enter(directory)

    place = tmp_path / "pods" / "one"
    assert (place / "cgroup.procs").read_text() == str(os.getpid())
    journal = json.loads((directory.path / "state.json").read_text())
    assert journal["cgroups"] == [str(place)]

    # The kernel's files don't count, those of this tree do.
    (place / "cgroup.procs").unlink()
    cgroup.leave()
    assert (home / "cgroup.procs").read_text() == str(os.getpid())
    assert not place.exists()


def test_a_cgroup_that_can_not_be_entered_is_left_everywhere(tmp_path: Path, directory: RunDirectory):
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").write_text("not a directory")
    good = Hierarchy(tmp_path / "good", frozenset({"pids"}))
    cgroup = PodCgroup("one", HostCgroups((good, Hierarchy(tmp_path / "bad", frozenset({"cpu"}))), OWN))

    with pytest.raises(FailedPreconditionError, match=r"the pod's cgroup .*/bad/one: Not a directory"):
        cgroup.enter(directory)

    assert (tmp_path / "good" / "cgroup.procs").read_text() == str(os.getpid())


def _files(root: Path) -> dict[str, str]:
    """What was written to which file of a fake hierarchy."""
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_vcpus_are_in_the_pods_cgroup_and_all_else_is_overhead(tmp_path: Path, directory: RunDirectory):
    tree = tmp_path / "cpu"
    cgroup = PodCgroup.split("pods/one", "kata_overhead/one", HostCgroups((Hierarchy(tree, frozenset({"cpu"})),), OWN))
    tree.mkdir()

    cgroup.enter(directory)
    cgroup.place_vcpus(os.getpid(), [threading.get_native_id(), 1])

    assert cgroup.has_vcpus_apart
    assert _files(tree) == {
        "kata_overhead/one/cgroup.procs": str(os.getpid()),
        # Process 1 is no thread of this one, whoever says so.
        "pods/one/tasks": str(threading.get_native_id()),
    }
    journal = json.loads((directory.path / "state.json").read_text())
    assert journal["cgroups"] == [str(tree / "kata_overhead/one"), str(tree / "pods/one")]


def test_both_cgroups_are_removed(tmp_path: Path, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pod_cgroup, "LEAVE_TIMEOUT", 0)
    tree = tmp_path / "cpu"
    tree.mkdir()
    cgroup = PodCgroup.split("pods/one", "kata_overhead/one", HostCgroups((Hierarchy(tree, frozenset({"cpu"})),), OWN))
    cgroup.enter(directory)
    (tree / "kata_overhead/one/cgroup.procs").unlink()

    cgroup.leave()

    assert not (tree / "kata_overhead/one").exists()
    assert not (tree / "pods/one").exists()


def test_parents_that_were_made_for_the_pod_go_with_it_unless_they_are_used(
    tmp_path: Path, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pod_cgroup, "LEAVE_TIMEOUT", 0)
    tree = tmp_path / "cpu"
    (tree / "kubepods").mkdir(parents=True)
    (tree / "kata_overhead" / "another").mkdir(parents=True)
    host = HostCgroups((Hierarchy(tree, frozenset({"cpu"})),), OWN)
    cgroup = PodCgroup.split("kubepods/burstable/one", "kata_overhead/one", host)
    cgroup.enter(directory)
    (tree / "kata_overhead/one/cgroup.procs").unlink()

    cgroup.leave()

    assert (tree / "kubepods").exists()
    assert not (tree / "kubepods" / "burstable").exists()
    assert [path.name for path in (tree / "kata_overhead").iterdir()] == ["another"]


def test_delete_removes_parents_that_were_made_and_are_empty(tmp_path: Path, directory: RunDirectory):
    (tmp_path / "made" / "leaf").mkdir(parents=True)
    (tmp_path / "used" / "other").mkdir(parents=True)
    directory.record("cgroups", [str(tmp_path / "made" / "leaf")])
    directory.record("cgroup_parents", [str(tmp_path / "made"), str(tmp_path / "used")])
    directory.release()

    cleanup.clean(directory.path)

    assert not (tmp_path / "made").exists()
    assert (tmp_path / "used").exists()


def test_a_parent_that_goes_while_a_cgroup_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hierarchy, gone = Hierarchy(tmp_path), []
    make = Hierarchy._make

    def vanishing(self: Hierarchy, place: Path) -> None:
        make(self, place)
        if not gone:
            gone.append(place)
            place.rmdir()

    monkeypatch.setattr(Hierarchy, "_make", vanishing)

    assert hierarchy.make("parent/leaf").is_dir()


def test_version_2_has_no_threads_apart_so_all_is_in_the_pods_cgroup(tmp_path: Path, directory: RunDirectory):
    cgroup = PodCgroup.split("pods/one", "kata_overhead/one", HostCgroups((Hierarchy(tmp_path / "cg"),), OWN))
    (tmp_path / "cg").mkdir()

    cgroup.enter(directory)

    assert not cgroup.has_vcpus_apart
    assert _files(tmp_path / "cg") == {"pods/one/cgroup.procs": str(os.getpid())}


def test_a_helper_that_was_born_elsewhere_is_taken_in(tmp_path: Path, directory: RunDirectory):
    cgroup = PodCgroup("pods/one", HostCgroups((Hierarchy(tmp_path / "cg"),), OWN))
    (tmp_path / "cg").mkdir()
    cgroup.enter(directory)

    cgroup.adopt(4242)

    assert _files(tmp_path / "cg") == {"pods/one/cgroup.procs": "4242"}


def test_removal_is_idempotent_and_bounded(tmp_path: Path):
    (tmp_path / "busy" / "child").mkdir(parents=True)
    (tmp_path / "idle").mkdir()
    paths = [str(tmp_path / name) for name in ("busy", "idle", "missing")]

    assert remove_cgroups(paths, time.monotonic() + 0.02) == [str(tmp_path / "busy")]
    assert not (tmp_path / "idle").exists()


def test_delete_removes_what_is_in_the_journal(tmp_path: Path, directory: RunDirectory):
    place = tmp_path / "cg"
    place.mkdir()
    directory.record("processes", {})
    directory.record("cgroups", [str(place)])
    directory.release()

    cleanup.clean(directory.path)

    assert not place.exists()


def test_delete_bears_with_a_journal_that_makes_no_sense(tmp_path: Path, directory: RunDirectory):
    directory.record("processes", {})
    directory.record("cgroups", {"a": 1})
    directory.release()

    cleanup.clean(directory.path)

    assert not directory.path.exists()
