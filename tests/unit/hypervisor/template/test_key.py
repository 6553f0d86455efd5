"""Contract: the key is another one as soon as anything is that a template depends on, and for nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hypervisor.devices import SharedFs
from hypervisor.errors import HypervisorError
from hypervisor.nics import Nic
from hypervisor.template.key import facts, template_spec
from hypervisor.vm import VmSpec


@pytest.fixture
def spec(tmp_path: Path) -> VmSpec:
    for name in ("qemu", "kernel", "initrd", "image"):
        (tmp_path / name).write_text(name)
    return VmSpec(
        name="pod",
        run_dir=tmp_path,
        qemu=tmp_path / "qemu",
        kernel=tmp_path / "kernel",
        initrd=tmp_path / "initrd",
        image=tmp_path / "image",
        vcpus=2,
        memory_mib=512,
        accelerator="tcg",
    )


def base(spec: VmSpec) -> VmSpec:
    return template_spec(spec, 1, 256)


def test_what_is_a_pods_own_does_not_count(spec, tmp_path):
    other = replace(
        spec,
        name="another",
        run_dir=tmp_path / "elsewhere",
        vcpus=4,
        memory_mib=4096,
        shared_fs=SharedFs(tmp_path / "fs", "kataShared", 1024),
        nics=(Nic("nic2", "02:00:00:00:00:01", (7,)),),
    )

    assert facts(base(spec)) == facts(base(replace(other, max_vcpus=0)))


@pytest.mark.parametrize(
    "change",
    [
        {"kernel_params": ("agent.log=debug",)},
        {"machine_type": "pc-q35-7.2"},
        {"accelerator": "kvm"},
        {"cpu_features": "pmu=off"},
        {"max_vcpus": 8},
        {"max_memory_mib": 8192},
        {"pci_bridges": 2},
        {"agent_channel": "vsock"},
        {"debug": True},
        {"seccomp_sandbox": "on"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_vm_is_counts(spec, change):
    assert facts(base(spec)) != facts(base(replace(spec, **change)))


@pytest.mark.parametrize("name", ["qemu", "kernel", "initrd", "image"])
def test_a_file_that_is_replaced_by_an_equal_one_counts(spec, tmp_path, name):
    before = facts(base(spec))
    about = (tmp_path / name).stat()
    (tmp_path / "new").write_text(name)
    os.utime(tmp_path / "new", ns=(about.st_atime_ns, about.st_mtime_ns))
    (tmp_path / "new").rename(tmp_path / name)

    assert facts(base(spec)) != before


def test_a_size_of_its_own_is_a_template_of_its_own(spec):
    assert len({facts(template_spec(spec, *size)) for size in ((1, 256), (2, 256), (1, 512))}) == 3


def test_a_file_that_is_missing_is_named(spec, tmp_path):
    (tmp_path / "kernel").unlink()

    with pytest.raises(HypervisorError, match="kernel"):
        facts(base(spec))
