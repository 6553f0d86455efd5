"""Contract: a run directory has one owner, says what to undo, and can be undone by anybody once the owner is gone."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from sandbox import cleanup, rundir
from sandbox.interface import SandboxIdentity
from sandbox.pod_state import PodState


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_names_are_unique_over_containerds_and_namespaces():
    names = {
        rundir.run_dir_for(address, namespace, "c1")
        for address in ("/run/a.sock", "/run/b.sock")
        for namespace in ("default", "k8s.io")
    }
    assert len(names) == 4
    assert all(path.name.startswith("c1-") for path in names)


def test_the_longest_id_leaves_room_for_a_socket_name():
    path = rundir.run_dir_for("/run/containerd/containerd.sock", "k8s.io", "x" * 76)
    assert len(str(path / "virtiofsd.sock")) < 107


def test_only_one_process_owns_a_directory(tmp_path):
    first = rundir.RunDirectory.create(tmp_path / "s", {})
    with pytest.raises(FileExistsError, match="belongs to another running shim"):
        rundir.RunDirectory.create(tmp_path / "s", {})
    first.release()
    rundir.RunDirectory.create(tmp_path / "s", {}).release()


def test_the_lock_tells_whether_the_daemon_lives(tmp_path):
    directory = rundir.RunDirectory.create(tmp_path / "s", {})
    assert cleanup.daemon_alive(tmp_path / "s")
    directory.release()
    assert not cleanup.daemon_alive(tmp_path / "s")
    assert not cleanup.daemon_alive(tmp_path / "missing")


def test_close_removes_the_directory(tmp_path):
    directory = rundir.RunDirectory.create(tmp_path / "s", {})
    directory.close()
    directory.close()
    assert not (tmp_path / "s").exists()


def test_start_time_tells_two_processes_of_one_pid_apart(sleeper):
    assert rundir.start_time(sleeper.pid) is not None
    sleeper.kill()
    sleeper.wait()
    assert rundir.start_time(sleeper.pid) is None


def test_clean_kills_what_was_journalled_and_removes_socket_and_directory(tmp_path, sleeper):
    path = tmp_path / "s.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    directory = rundir.RunDirectory.create(tmp_path / "s", {"socket": str(path)})
    directory.record_process("qemu", sleeper.pid)
    directory.release()

    pid = cleanup.clean(tmp_path / "s")

    assert pid == sleeper.pid
    assert sleeper.wait(timeout=5) == -9
    assert not path.exists()
    assert not (tmp_path / "s").exists()
    listener.close()


def test_clean_does_not_touch_a_process_that_took_the_pid(tmp_path, sleeper):
    directory = rundir.RunDirectory.create(tmp_path / "s", {})
    directory.record("processes", {"qemu": {"pid": sleeper.pid, "start_time": 1}})
    directory.release()

    cleanup.clean(tmp_path / "s")

    assert sleeper.poll() is None


@pytest.mark.parametrize(
    "journal",
    [
        "",
        "[]",
        "{",
        '{"processes": 3}',
        '{"processes": {"qemu": 3}}',
        '{"processes": {"qemu": {"pid": "1"}}}',
        '{"processes": {"virtiofsd": {"pid": 99999999999999999999}}}',
    ],
)
def test_clean_lives_with_a_broken_journal_and_with_none(tmp_path, journal):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "state.json").write_text(journal)
    assert cleanup.clean(tmp_path / "s") is None
    assert cleanup.clean(tmp_path / "s") is None
    assert not (tmp_path / "s").exists()


def test_what_the_daemon_journals_until_it_is_dead_is_undone(tmp_path, monkeypatch, sleeper):
    directory = rundir.RunDirectory.create(tmp_path / "s", {})
    directory.release()
    kill = cleanup.kill

    def killed(entry):
        if entry and entry["pid"] == os.getpid():
            directory.record_process("qemu", sleeper.pid)
            directory.record("cgroups", [str(tmp_path / "cgroup")])
        return kill(entry)

    monkeypatch.setattr(cleanup, "kill", killed)
    (tmp_path / "cgroup").mkdir()

    assert cleanup.clean(tmp_path / "s") == sleeper.pid

    assert sleeper.wait(timeout=5) == -9
    assert not (tmp_path / "cgroup").exists()


def test_the_caller_is_never_killed(tmp_path):
    directory = rundir.RunDirectory.create(tmp_path / "s", {})
    directory.record_process("daemon", os.getpid())
    directory.release()
    cleanup.clean(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_the_living_among_the_journalled_processes(tmp_path, sleeper):
    directory = rundir.RunDirectory.create(tmp_path / "s", {})
    directory.record_process("qemu", sleeper.pid)

    assert directory.processes() == {"daemon": os.getpid(), "qemu": sleeper.pid}

    sleeper.kill()
    sleeper.wait()

    assert directory.processes() == {"daemon": os.getpid()}
    directory.close()


@pytest.mark.parametrize(
    "processes", [None, [], {"a": None}, {"a": {"pid": True}}, {"a": {"pid": "1"}}, {"a": {"pid": 2}}]
)
def test_nothing_lives_in_a_broken_journal(processes):
    assert rundir.living({"processes": processes}) == {}


def test_what_a_killed_daemon_left_is_undone_before_its_pod_comes_again(tmp_path, monkeypatch, sleeper):
    monkeypatch.setattr(rundir, "ROOT", tmp_path)
    path = rundir.run_dir_for("/run/containerd.sock", "default", "c1")
    address = tmp_path / "c1.sock"
    dead = rundir.RunDirectory.create(path, {"socket": str(address)})
    dead.record_process("qemu", sleeper.pid)
    (path / "shared" / "c1" / "rootfs").mkdir(parents=True)
    dead.release()
    # By now it is the new daemon's.
    address.touch()

    pod = PodState(
        SandboxIdentity("c1", "default", "/run/containerd.sock", address),
        open_stdio=pytest.fail,
        publish=pytest.fail,
        load_config=pytest.fail,
        make_machine=pytest.fail,
        find_cgroups=pytest.fail,
    )
    pod.open_directory()

    assert sleeper.wait(timeout=5) == -9
    assert not (path / "shared").exists()
    assert pod.directory.processes() == {"daemon": os.getpid()}
    assert address.exists()
    pod.directory.close()
