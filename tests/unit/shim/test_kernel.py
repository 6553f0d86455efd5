"""The system calls, in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.unit.shim.place import PROJECT


def _run(code: str) -> subprocess.CompletedProcess[str]:
    prologue = f"import sys; sys.path.insert(0, {str(PROJECT)!r})\nimport os\nfrom shim import kernel\n"
    command = [sys.executable, "-I", "-S", "-c", prologue + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_orphans_come_to_a_subreaper() -> None:
    code = """
kernel.become_subreaper()
read, write = os.pipe()
child = os.fork()
if child == 0:
    if os.fork() == 0:
        os.read(read, 1)
        os._exit(7)
    os._exit(0)
os.waitpid(child, 0)
os.write(write, b"x")
pid, status = os.wait()
print(os.waitstatus_to_exitcode(status))
"""
    done = _run(code)

    assert done.stdout == "7\n", done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_private_mounts_are_seen_by_nobody_else() -> None:
    code = """
before = os.readlink("/proc/self/ns/mnt")
kernel.enter_private_mounts()
print(os.readlink("/proc/self/ns/mnt") != before)
print("shared:" in open("/proc/self/mountinfo").read())
"""
    done = _run(code)

    assert done.stdout == "True\nFalse\n", done.stderr


def test_a_process_that_does_not_end_is_ended() -> None:
    done = _run("import signal\nkernel.end_within(0.05)\nsignal.pause()")

    assert done.returncode == -signal.SIGALRM


def test_a_refused_call_says_which_and_why() -> None:
    done = _run("try: kernel._prctl(-1)\nexcept OSError as error: print(error)")

    assert done.stdout == "[Errno 22] prctl: Invalid argument\n"


@pytest.mark.parametrize("told", [True, False])
def test_memory_in_large_blocks_is_given_back_when_told_so(told: bool) -> None:
    code = f"""
if {told}:
    kernel.give_back_memory_from(128 * 1024)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
# What malloc learns from: a large block that was freed.
large = b"x" * (16 << 20)
del large
before = resident()
blocks = [bytes([65 + n]) * (1 << 20) for n in range(16)]
behind = b"y" * 1000
del blocks
print((resident() - before) >> 20)
"""
    done = _run(code)

    assert (int(done.stdout) < 4) is told, (done.stdout, done.stderr)
