"""The process table."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.harness import processes
from tests.harness.waiting import eventually

GRANDCHILD = "import subprocess, sys; sys.stdin.readline(); subprocess.run(['sleep', '1000'])"


def test_a_process_is_read_with_its_parent_and_command():
    me = processes.read_process(os.getpid())

    assert me is not None
    assert me.parent == os.getppid()
    assert "pytest" in me.command


def test_a_process_that_is_gone_is_none():
    child = subprocess.Popen(["true"])
    child.wait()

    assert processes.read_process(child.pid) is None
    assert processes.wait_gone(child.pid, timeout=0)


def test_descendants_are_found_over_generations():
    table = {
        pid: processes.Process(pid, parent, 0, "S", "p", "p")
        for pid, parent in ((1, 0), (2, 1), (3, 2), (4, 1), (5, 4))
    }

    assert [one.pid for one in processes.descendants([2, 4], table)] == [3, 5]
    assert [one.pid for one in processes.descendants([1], table)] == [2, 3, 4, 5]


def test_a_zombie_is_not_alive():
    child = subprocess.Popen(["true"])
    try:
        zombie = eventually(lambda: (one := processes.read_process(child.pid)) and one.state == "Z", "child ends")
        alive = processes.is_alive(child.pid)
    finally:
        child.wait()

    assert zombie
    assert not alive


def test_find_looks_at_the_whole_command_line():
    child = subprocess.Popen([sys.executable, "-c", GRANDCHILD, "marker-7f3a"], stdin=subprocess.PIPE)
    try:
        eventually(lambda: processes.find("marker-7f3a"), "the child has its own command line")
        found = processes.find(r"marker-7f3a$")
    finally:
        child.kill()
        child.communicate()

    assert [one.pid for one in found] == [child.pid]


def test_memory_is_read_in_kib():
    assert 1000 < processes.memory_kib(os.getpid(), "Rss") < 10_000_000


def test_an_unknown_field_of_memory_is_an_error():
    with pytest.raises(KeyError):
        processes.memory_kib(os.getpid(), "Nothing")
