"""Which process is which part of a pod."""

from __future__ import annotations

import os

import pytest

from bench.pods_memory import ALL, DAEMON, SERVER, part_of, per_pod
from tests.harness.processes import Process


def process(command, pid=1):
    return Process(pid, 1, 0, "S", "x", command)


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("/x/python -I -S -OO /x/shim/entry.py -namespace default -id pod -address /x", DAEMON),
        ("kata-fork-server", SERVER),
        ("/usr/bin/qemu-system-x86_64 -name guest=pod", "qemu-system"),
        ("/usr/lib/qemu/virtiofsd --fd=17", "virtiofsd"),
        ("containerd --config /x", ""),
    ],
)
def test_a_process_is_known_by_its_command_line(command, part):
    assert part_of(process(command)) == part


def test_memory_is_divided_by_the_number_of_pods():
    found = per_pod(2, [process("python entry.py -id a", os.getpid()), process("python entry.py -id b", os.getpid())])

    assert found[DAEMON] > 1
    assert found == {DAEMON: found[DAEMON], ALL: found[DAEMON]}


def test_a_pod_without_a_daemon_is_an_error():
    with pytest.raises(LookupError, match="1 daemons of 2 pods"):
        per_pod(2, [process("python entry.py -id a")])
