"""Running the host's programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from guest.image import tools
from guest.image.errors import BuildError


def test_a_missing_program_is_told_with_its_debian_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "_SBIN", str(tmp_path))

    with pytest.raises(BuildError, match=r"mkfs\.erofs is missing: install it with `apt-get install erofs-utils`"):
        tools.find("mkfs.erofs")
    with pytest.raises(BuildError, match="apt-get install apt dpkg erofs-utils lz4"):
        tools.require_all()


def test_output_is_returned() -> None:
    assert tools.run(["/bin/sh", "-c", "echo $LC_ALL $X"], timeout=10, env={"X": "y"}) == b"C.UTF-8 y\n"


def test_a_failure_carries_status_and_last_words() -> None:
    with pytest.raises(BuildError, match="sh failed with status 3: the reason"):
        tools.run(["/bin/sh", "-c", "echo first >&2; echo the reason >&2; exit 3"], timeout=10)


def test_a_program_that_does_not_end_is_stopped() -> None:
    with pytest.raises(BuildError, match="sh did not finish within 0 s"):
        tools.run(["/bin/sh", "-c", "exec sleep 60"], timeout=0.1)


def test_a_program_that_cannot_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be run"):
        tools.run([str(tmp_path / "nothing")], timeout=10)
