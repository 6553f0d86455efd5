"""From the remains of a VM to the cause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.errors import HypervisorError
from hypervisor.evidence import (
    console_lines,
    describe_end,
    describe_exit,
    guest_failure,
    last_words,
    signal_name,
    stderr_cause,
)

PANIC = """\
\x1b[0m[    1.000000] Run /init as init process\r
[    1.200000][    T1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r
[    1.200001] CPU: 0 PID: 1 Comm: init Not tainted 6.1.0\r
[    1.300000] ---[ end Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100 ]---\r
"""


def test_console_lines_are_without_decoration():
    assert console_lines(PANIC) == [
        "Run /init as init process",
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
        "CPU: 0 PID: 1 Comm: init Not tainted 6.1.0",
    ]


def test_a_panic_is_the_failure():
    assert guest_failure(PANIC) == "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[1.0] BUG: kernel NULL pointer dereference, address: 0", "BUG: kernel NULL pointer dereference, address: 0"),
        ("[1.0] Out of memory: Killed process 1 (init)", "Out of memory: Killed process 1 (init)"),
        ("[1.0] all is well", None),
        ("", None),
    ],
)
def test_other_failures_are_found(line: str, expected: str | None):
    assert guest_failure(line) == expected


def test_the_last_words_are_the_last_meaningful_lines():
    assert last_words("a\n\n[ 1.0] b\n---\nc\n", 2) == "b | c"
    assert last_words("") == ""


def test_a_warning_is_no_cause():
    stderr = "qemu: -x: no such thing\nqemu-system-x86_64: warning: TCG doesn't support requested feature\n\n"
    assert stderr_cause(stderr) == "qemu: -x: no such thing"
    assert stderr_cause("qemu: warning: only this\n") is None
    assert stderr_cause("") is None


def test_an_exit_is_told_by_status_or_signal():
    assert describe_exit("QEMU", 1, "qemu: bad\n") == "QEMU exited with status 1: qemu: bad"
    assert describe_exit("QEMU", -9) == "QEMU was killed by SIGKILL"
    assert describe_exit("virtiofsd", -6, "assert failed") == "virtiofsd was killed by SIGABRT: assert failed"


def test_a_signal_without_a_name_has_its_number():
    assert signal_name(63) == "signal 63"


@pytest.mark.parametrize(
    ("returncode", "cause", "stderr", "console", "expected"),
    [
        (0, "guest-shutdown", "", "bye", "the guest powered off"),
        (0, "guest-reset", "", "bye", "the guest restarted (last on its console: bye)"),
        (0, "guest-reset", "", PANIC, f"the guest restarted: {guest_failure(PANIC)}"),
        (0, "guest-panic", "", "", "the guest's kernel panicked"),
        (0, "host-qmp-quit", "", "bye", "QEMU was told to quit"),
        (0, None, "", "bye", "QEMU exited with status 0"),
        (0, "news-from-qemu-12", "", "", "QEMU exited with status 0"),
        (1, None, "qemu: no", "", "QEMU exited with status 1: qemu: no"),
        (1, None, "qemu: no", "bye", "QEMU exited with status 1: qemu: no (last on its console: bye)"),
        (-9, None, "", "bye", "QEMU was killed by SIGKILL"),
        (-11, "guest-reset", "", PANIC, f"QEMU was killed by SIGSEGV: {guest_failure(PANIC)}"),
    ],
)
def test_an_end_is_told_by_all_that_is_known(
    returncode: int, cause: str | None, stderr: str, console: str, expected: str
):
    assert describe_end(returncode, cause, stderr, console) == expected


@given(st.text(), st.text(), st.integers(-64, 255))
def test_an_error_made_of_any_evidence_is_one_printable_line(stderr: str, console: str, returncode: int):
    message = str(HypervisorError(describe_end(returncode, "guest-reset", stderr, console)))
    assert message.isprintable()
    assert 0 < len(message) <= 2000
