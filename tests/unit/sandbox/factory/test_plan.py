"""Contract: which pods are clones, of which template, and how they have its memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config import Config, FactoryConfig, HypervisorConfig
from hypervisor.devices import NinepFs, SharedFs
from hypervisor.vm import VmSpec
from sandbox.factory.plan import memory_way, plan_factory, unfit
from sandbox.resources.demand import plan_range
from sandbox.sizing import HostSize, Limits, VmSize

HOST = HostSize(4, 8192)
FS = SharedFs(Path("/run/pod/fs"), "kataShared", 1024)
SPEC = VmSpec(
    name="pod",
    run_dir=Path("/run/pod"),
    qemu=Path("/usr/bin/qemu"),
    kernel=Path("/kernel"),
    initrd=Path("/initrd"),
    vcpus=1,
    memory_mib=256,
    accelerator="tcg",
)


def settings(enabled: bool = True) -> Config:
    hypervisor = HypervisorConfig(default_vcpus=1, default_memory=512)
    return Config(source=Path("/c.toml"), hypervisor=hypervisor, factory=FactoryConfig(enable_template=enabled))


@pytest.mark.parametrize(("static", "expected"), [(False, VmSize(1, 512)), (True, VmSize(3, 1536))])
def test_clones_grow_from_the_configurations_size_unless_vms_never_grow(static, expected):
    bounds = plan_range(settings().hypervisor, static, Limits(2, 1024), HOST)

    plan = plan_factory(settings(), bounds, HOST)

    assert plan is not None
    assert plan.size == expected


def test_by_default_every_vm_is_booted():
    bounds = plan_range(settings().hypervisor, False, Limits(), HOST)

    assert plan_factory(settings(enabled=False), bounds, HOST) is None
    assert not FactoryConfig().enable_template


@pytest.mark.parametrize(
    ("wanted", "fs", "expected"),
    [("auto", FS, "copy"), ("auto", None, "private"), ("copy", None, "copy"), ("private", None, "private")],
)
def test_memory_is_copied_only_where_a_daemon_must_map_it_or_it_is_asked_for(wanted, fs, expected):
    assert memory_way(wanted, replace(SPEC, shared_fs=fs)) == expected
    assert unfit(wanted, replace(SPEC, shared_fs=fs)) == ""


@pytest.mark.parametrize(
    ("wanted", "change", "words"),
    [
        ("auto", {"shared_fs": NinepFs(Path("/s"), "kataShared")}, "virtio-9p"),
        ("auto", {"shared_fs": replace(FS, cache_size_mib=64)}, "DAX"),
        ("private", {"shared_fs": FS}, "template_memory"),
        ("auto", {"virtio_mem": True, "max_memory_mib": 4096}, "virtio-mem"),
    ],
)
def test_what_can_not_be_a_clone_says_why(wanted, change, words):
    assert words in unfit(wanted, replace(SPEC, **change))
