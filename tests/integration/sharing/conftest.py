"""A bed whose containers can be run under changed configurations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.harness.fixtures import bed, bed_keeper, ctr, nothing_left

__all__ = ["bed", "bed_keeper", "ctr", "nothing_left"]

#: Gives the TOML that a drop-in has to say; returns a ctr whose containers run under it.
Configure = Callable[[str], Ctr]


@pytest.fixture
def configured(bed: Bed, nothing_left: None, tmp_path: Path) -> Configure:
    """Makes a ctr whose containers run under the bed's configuration with a drop-in."""

    def make(drop_in: str) -> Ctr:
        configuration = tmp_path / "kata" / "configuration.toml"
        (configuration.parent / "config.d").mkdir(parents=True)
        configuration.write_text(bed.configuration.read_text())
        (configuration.parent / "config.d" / "50-test.toml").write_text(drop_in)
        return Ctr(bed.socket, bed.runtime, configuration=configuration)

    return make


def mount(source: Path, destination: str, options: str = "rbind:rw") -> tuple[str, str]:
    """Options for `ctr run` that bind a host path into the container."""
    return "--mount", f"type=bind,src={source},dst={destination},options={options}"
