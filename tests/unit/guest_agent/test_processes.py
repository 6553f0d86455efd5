"""The processes of a container, told in its own terms."""

from __future__ import annotations

import json
import os

import pytest

from guest.agent import processes


@pytest.fixture
def world(tmp_path):
    """Adds processes to a cgroup."""
    cgroup, proc = tmp_path / "cgroup", tmp_path / "proc"
    cgroup.mkdir()

    def add(
        pid: int, *, ppid: int, inside: int, uid: int = 0, command: bytes = b"sh\0-c\0x\0", below: str = ""
    ) -> None:
        (proc / str(pid)).mkdir(parents=True)
        status = f"Name:\tsh\nPPid:\t{ppid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpid:\t{pid}\t{inside}\n"
        (proc / str(pid) / "status").write_text(status)
        (proc / str(pid) / "cmdline").write_bytes(command)
        (cgroup / below).mkdir(exist_ok=True)
        with (cgroup / below / "cgroup.procs").open("a") as file:
            file.write(f"{pid}\n")

    add.listed = lambda exec_ids=None: processes.listed(str(cgroup), str(proc), exec_ids or {})
    add.cgroup = cgroup
    return add


def test_pids_and_parents_are_the_container_s(world):
    world(50, ppid=1, inside=1)
    world(61, ppid=50, inside=7, uid=1000, command=b"sleep\0009\0")

    assert world.listed({61: "e1"}) == [
        {"pid": 1, "guest_pid": 50, "uid": 0, "command": "sh -c x", "exec_id": "", "ppid": 0},
        {"pid": 7, "guest_pid": 61, "uid": 1000, "command": "sleep 9", "exec_id": "e1", "ppid": 1},
    ]


def test_processes_in_cgroups_below_belong_to_it(world):
    world(50, ppid=1, inside=1)
    world(60, ppid=50, inside=2, below="own")

    assert [entry["pid"] for entry in world.listed()] == [1, 2]


def test_one_that_has_just_gone_is_left_out(world):
    world(50, ppid=1, inside=1)
    with (world.cgroup / "cgroup.procs").open("a") as file:
        file.write("51\n")

    assert len(world.listed()) == 1


def test_a_process_without_arguments_goes_by_its_name(world):
    world(50, ppid=1, inside=1, command=b"")

    assert world.listed()[0]["command"] == "[sh]"


def test_what_a_process_calls_itself_is_cut_and_printable(world):
    world(50, ppid=1, inside=1, command=b"\x1b[2J\xff" + b"x" * 10_000)

    command = world.listed()[0]["command"]

    assert len(command) == processes.COMMAND_LIMIT
    assert command.isprintable()


def test_the_list_is_bounded_and_fits_an_answer(world, monkeypatch):
    monkeypatch.setattr(processes, "MAX_PROCESSES", 20)
    for pid in range(100, 150):
        world(pid, ppid=1, inside=pid, command=b'"' * 1000)

    assert len(world.listed()) == 20
    assert len(json.dumps(world.listed())) < 20 * 1024


def test_a_cgroup_that_is_gone_has_no_processes(tmp_path):
    assert processes.listed(str(tmp_path / "gone"), "/proc", {}) == []


def test_of_this_system_the_own_process_is_found(tmp_path):
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")

    assert processes.listed(str(tmp_path), "/proc", {})[0]["guest_pid"] == os.getpid()
