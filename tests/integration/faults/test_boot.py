"""Machines that never come up: one line with the phase and the cause, within the deadline, and all of it undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bed import Bed
from tests.harness.command import Result
from tests.harness.ctr import Ctr
from tests.integration.faults import guests
from tests.integration.faults.conftest import WithSettings
from tests.integration.faults.measured import Measured
from tests.integration.hypervisor.toy_kernel import write_kernel

pytestmark = pytest.mark.integration

#: Seconds that a failure may take which needs no boot to be seen.
AT_ONCE = 3.0
#: Seconds that the agent gets where it will never answer: enough for the guest to come as far as it does.
NO_BOOT, BOOT = 1, 5
#: Seconds that noticing it may take on top.
MARGIN = 3.0

#: Makes the broken part in a directory, and returns the settings that name it.
Break = Callable[[Path], dict[str, Any]]


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


FILES: dict[str, tuple[Break, tuple[str, ...]]] = {
    "no kernel": (lambda tmp: {"kernel": tmp / "none"}, ("phase vm", "kernel", "none: No such file")),
    "no initrd": (lambda tmp: {"initrd": tmp / "none"}, ("phase vm", "initrd", "none: No such file")),
    "no image": (lambda tmp: {"image": tmp / "none"}, ("phase vm", "image", "none: No such file")),
    "a kernel that is a text": (
        lambda tmp: {"kernel": _written(tmp / "text", b"not a kernel\n" * 100)},
        ("phase vm", "text is neither a bzImage nor an ELF image"),
    ),
    "a kernel that is cut off": (
        lambda tmp: {"kernel": _written(tmp / "cut", write_kernel(tmp / "whole").read_bytes()[:60])},
        ("phase vm", "QEMU exited with status 1", "Error while loading elf kernel"),
    ),
    "no QEMU": (lambda tmp: {"path": tmp / "none"}, ("phase vm", "none: no such program")),
    "a QEMU that dies at once": (
        lambda tmp: {"path": guests.script(tmp, "qemu", "echo 'qemu: no luck today' >&2; exit 3")},
        ("phase vm", "QEMU exited with status 3", "qemu: no luck today"),
    ),
    "no virtiofsd": (lambda tmp: {"virtio_fs_daemon": tmp / "none"}, ("phase ", "none: no such program")),
    "a virtiofsd that dies at once": (
        lambda tmp: {
            "virtio_fs_daemon": guests.script(
                tmp, "virtiofsd", "[ $1 = --version ] && echo virtiofsd 1.10.0 || { echo 'no luck today' >&2; exit 3; }"
            )
        },
        ("virtiofsd exited with status 3: no luck today",),
    ),
}

#: With the seconds that the agent gets.
GUESTS: dict[str, tuple[int, Break, tuple[str, ...]]] = {
    "a kernel that says nothing": (
        NO_BOOT,
        lambda tmp: {"kernel": write_kernel(tmp / "mute")},
        ("phase agent", "no agent has opened it", "console is empty"),
    ),
    "a kernel that hangs": (
        NO_BOOT,
        lambda tmp: {"kernel": write_kernel(tmp / "hangs", b"Booting...\nhang on\n")},
        ("phase agent", "no agent has opened it", "hang on"),
    ),
    "a kernel without its first process": (
        BOOT,
        lambda tmp: {"kernel_params": "rdinit=/none root=/dev/none"},
        ("phase agent", "Kernel panic - not syncing: VFS: Unable to mount root fs"),
    ),
    "an image that is none": (
        BOOT,
        lambda tmp: {"image": _written(tmp / "noise", b"noise" * 100_000)},
        ("phase agent", "kata-initrd: /dev/vda is not the root image"),
    ),
    "an agent that is silent": (
        BOOT,
        lambda tmp: {"initrd": guests.initrd(tmp, "silent")},
        ("phase agent", "no agent has opened it", "mute guest: port open"),
    ),
    "an agent that answers no call": (
        BOOT,
        lambda tmp: {"initrd": guests.initrd(tmp, "deaf")},
        ("phase agent", "Check", "mute guest: port open"),
    ),
    "an agent that babbles": (
        BOOT,
        lambda tmp: {"initrd": guests.initrd(tmp, "babbling")},
        ("phase agent", "no OK came from the guest's port"),
    ),
    "an agent that leaves": (
        BOOT,
        lambda tmp: {"initrd": guests.initrd(tmp, "leaving")},
        ("phase agent", "the guest restarted", "agent: leaving"),
    ),
}


def test_a_configuration_that_is_wrong_is_one_line_at_once(
    bed: Bed, nothing_left: None, with_settings: WithSettings, tmp_path: Path
) -> None:
    misspelt = _run(with_settings(kernal=tmp_path / "none"))
    missing = _run(Ctr(bed.socket, bed.runtime, configuration=tmp_path / "none.toml"))

    _assert_told(misspelt, ("50-fault.toml", "kernal", "kernel"), "")
    _assert_told(missing, ("none.toml", "does not exist"), "")


@pytest.mark.parametrize("fault", FILES)
def test_a_machine_that_cannot_start_is_one_line_at_once(
    nothing_left: None, with_settings: WithSettings, measured: Measured, tmp_path: Path, fault: str
) -> None:
    breaks, words = FILES[fault]

    done = _run(with_settings(**breaks(tmp_path)))

    _assert_told(done, words)
    measured.note(f"{fault}: ctr told", done.seconds)
    assert done.seconds < AT_ONCE


@pytest.mark.parametrize("fault", GUESTS)
def test_a_guest_that_never_answers_is_one_line_in_time(
    nothing_left: None, with_settings: WithSettings, measured: Measured, tmp_path: Path, fault: str
) -> None:
    patience, breaks, words = GUESTS[fault]

    done = _run(with_settings({"dial_timeout": patience}, **breaks(tmp_path)))

    _assert_told(done, words)
    measured.note(f"{fault}: ctr told (the agent had {patience} s)", done.seconds)
    assert done.seconds < patience + MARGIN


def _run(ctr: Ctr) -> Result:
    return ctr.run("c1", "true", options=("--rm",))


def _assert_told(done: Result, words: tuple[str, ...], what: str = "cannot start the sandbox") -> None:
    assert done.returncode != 0
    (line,) = done.error_text.splitlines()
    for word in (what, *words):
        assert word in line, line
