"""Contract: a start that could have been faster says what made it slow, and one that could not says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.slowness import READ_LEAST, WAITED_LEAST, bytes_read, reasons

_FAST: dict[str, Any] = {"accelerator": "kvm", "debug": False, "kernel": "", "read": 0, "waited": 0.0}


def test_a_fast_start_has_no_excuse(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(b"\x7fELF...")

    assert not list(reasons(**{**_FAST, "kernel": str(kernel), "read": READ_LEAST - 1, "waited": WAITED_LEAST / 2}))


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"accelerator": "tcg"}, "no KVM"),
        ({"debug": True}, "enable_debug"),
        ({"read": 40 << 20}, "cold page cache: 40 MiB"),
        ({"waited": 12.34}, "waited 12.3 s"),
    ],
)
def test_each_reason_is_told(fact: dict[str, Any], words: str) -> None:
    (reason,) = reasons(**{**_FAST, **fact})

    assert words in reason


def test_a_compressed_kernel_is_told_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"MZ" + bytes(600))

    assert "compressed" in "".join(reasons(**{**_FAST, "kernel": str(kernel)}))
    assert not list(reasons(**{**_FAST, "kernel": str(tmp_path / "gone")}))


@pytest.mark.parametrize(
    ("text", "expected"), [("rchar: 9\nread_bytes: 4096\n", 4096), ("read_bytes: many\n", 0), ("", 0)]
)
def test_what_was_read_is_what_proc_tells(tmp_path: Path, text: str, expected: int) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "io").write_text(text)

    assert bytes_read(7, tmp_path) == expected
    assert bytes_read(8, tmp_path) == 0
