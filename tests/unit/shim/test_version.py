"""One version, in one place."""

from __future__ import annotations

import tomllib
from pathlib import Path

from shim.version import VERSION


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]

    assert project["version"] == VERSION
