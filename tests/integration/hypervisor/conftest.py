"""QEMU with a toy kernel: a VM in 50 ms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hypervisor.vm import VmSpec
from tests.integration.hypervisor.toy_kernel import write_kernel

QEMU = Path("/usr/bin/qemu-system-x86_64")
VIRTIOFSD = next((p for p in map(Path, ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")) if p.exists()), None)

MakeSpec = Callable[..., VmSpec]


@pytest.fixture
def virtiofsd_binary() -> Path:
    """The host's virtiofsd."""
    if VIRTIOFSD is None:
        pytest.fail("virtiofsd is not installed", pytrace=False)
    return VIRTIOFSD


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A VM's run directory, which must be empty in the end."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    yield path
    assert list(path.iterdir()) == []


@pytest.fixture
def make_spec(tmp_path: Path, run_dir: Path) -> MakeSpec:
    """Makes the spec of a VM whose kernel prints `text` and then does `action`."""

    def make(text: bytes = b"", action: str = "halt", **changes: Any) -> VmSpec:
        initrd = tmp_path / "initrd"
        initrd.write_bytes(b"not used")
        kernel = write_kernel(tmp_path / "kernel", text, action)
        fields: dict[str, Any] = {
            "name": "toy",
            "run_dir": run_dir,
            "qemu": QEMU,
            "kernel": kernel,
            "initrd": initrd,
            "vcpus": 1,
            "memory_mib": 128,
            "accelerator": "tcg",
        }
        return VmSpec(**(fields | changes))

    return make
