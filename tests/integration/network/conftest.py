"""Fixtures of the network tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.harness.fixtures import bed, bed_keeper, cri, ctr, nothing_left

__all__ = ["bed", "bed_keeper", "cri", "ctr", "nothing_left"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One loop for all, so that a fixture may live as long as a module."""
    return "asyncio"


def configured(bed: Bed, directory: Path, **sections: dict[str, object]) -> Ctr:
    """A ctr whose runtime has these keys, by section (`runtime`, `hypervisor`), in place of the bed's own."""
    names = {"runtime": "runtime", "hypervisor": "hypervisor.qemu"}
    text = bed.configuration.read_text()
    for section, keys in sections.items():
        for key in keys:
            text = re.sub(rf"(?m)^{key} =.*\n", "", text)
        lines = "".join(f"{key} = {_toml(value)}\n" for key, value in keys.items())
        text = text.replace(f"[{names[section]}]\n", f"[{names[section]}]\n{lines}", 1)
    path = directory / "configuration.toml"
    path.write_text(text)
    return Ctr(bed.socket, bed.runtime, configuration=path)


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool | int) else f'"{value}"'
