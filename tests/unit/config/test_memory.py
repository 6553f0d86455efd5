"""Contract: what was read is only used again while no file of it has changed, in any way that its times may hide."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.memory import UNSETTLED, Memory

_AGO = 1_000_000_000


@pytest.fixture
def settled(tmp_path: Path) -> Path:
    path = tmp_path / "configuration.toml"
    path.write_text("1")
    return path


def _later(path: Path) -> Memory[str]:
    """A memory for which the file's last change is long ago."""
    return Memory(lambda: path.stat().st_ctime + 10 * UNSETTLED)


def test_files_that_did_not_change_are_read_once(settled: Path) -> None:
    memory = _later(settled)
    reads: list[str] = []

    def read() -> str:
        reads.append(settled.read_text())
        return reads[-1]

    assert [memory.recall([settled], read) for _ in range(3)] == ["1", "1", "1"]
    assert len(reads) == 1


def test_a_file_that_changes_with_the_same_size_and_time_is_read_again(settled: Path) -> None:
    memory = _later(settled)
    os.utime(settled, ns=(_AGO, _AGO))
    memory.recall([settled], settled.read_text)

    replacement = settled.with_suffix(".new")
    replacement.write_text("2")
    os.utime(replacement, ns=(_AGO, _AGO))
    replacement.rename(settled)

    assert memory.recall([settled], settled.read_text) == "2"


def test_one_file_more_or_less_is_another_configuration(settled: Path) -> None:
    memory = _later(settled)
    memory.recall([settled], lambda: "alone")

    assert memory.recall([settled, settled], lambda: "with a drop-in") == "with a drop-in"


def test_a_file_that_has_just_changed_is_not_remembered(settled: Path) -> None:
    memory: Memory[str] = Memory(lambda: settled.stat().st_ctime)
    memory.recall([settled], lambda: "first")

    assert memory.recall([settled], lambda: "second") == "second"


def test_a_failure_is_not_remembered(settled: Path) -> None:
    memory = _later(settled)

    def fail() -> str:
        raise ValueError("not TOML")

    with pytest.raises(ValueError, match="TOML"):
        memory.recall([settled], fail)

    assert memory.recall([settled], lambda: "mended") == "mended"
