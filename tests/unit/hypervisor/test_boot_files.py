"""What a VM boots from is looked at first, and named when it is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hypervisor.boot_files import check, is_kernel
from hypervisor.errors import HypervisorError
from hypervisor.vm import VmSpec
from tests.unit.hypervisor.test_command_line import SPEC


@pytest.fixture
def spec(tmp_path: Path) -> VmSpec:
    files = {name: tmp_path / name for name in ("kernel", "initrd", "image")}
    for path in files.values():
        path.write_bytes(b"\x7fELF" + bytes(600))
    return replace(SPEC, run_dir=tmp_path, **files)


def test_good_files_pass(spec: VmSpec):
    check(spec)


def test_a_bzimage_and_an_elf_image_are_kernels():
    assert is_kernel(bytes(0x202) + b"HdrS")
    assert is_kernel(b"\x7fELF" + bytes(0x202))
    assert not is_kernel(b"MZ" + bytes(0x204))
    assert not is_kernel(b"")


@pytest.mark.parametrize("name", ["kernel", "initrd", "image"])
def test_a_missing_file_is_named(spec: VmSpec, tmp_path: Path, name: str):
    (tmp_path / name).unlink()
    with pytest.raises(HypervisorError, match=f"{name} {tmp_path / name}: No such file or directory"):
        check(spec)


@pytest.mark.parametrize("name", ["kernel", "initrd", "image"])
def test_a_directory_is_no_file(spec: VmSpec, tmp_path: Path, name: str):
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(HypervisorError, match=f"{name} {tmp_path / name} is not a file"):
        check(spec)


@pytest.mark.parametrize("name", ["initrd", "image"])
def test_an_empty_file_is_named(spec: VmSpec, tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(HypervisorError, match=f"{name} {tmp_path / name} is empty"):
        check(spec)


def test_a_run_directory_that_is_missing_is_named(spec: VmSpec, tmp_path: Path):
    with pytest.raises(HypervisorError, match=r"run directory .*/gone does not exist"):
        check(replace(spec, run_dir=tmp_path / "gone"))
