"""Contract: a pod takes a VM of the cache only if it would have booted just that one, but for what is plugged in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config import AgentConfig, Config, FactoryConfig, HypervisorConfig
from hypervisor.devices import NinepFs, SharedFs
from hypervisor.vm import VmSpec
from sandbox.cache.likeness import base_spec, difference, unfit, vm_json
from sandbox.cache.plan import agent_json, plan_cache
from sandbox.resources.demand import plan_range
from sandbox.sizing import HostSize, Limits, VmSize

HOST = HostSize(4, 8192)
FS = SharedFs(Path("/run/pod/fs"), "kataShared", 1024)


@pytest.fixture
def spec(tmp_path: Path) -> VmSpec:
    for name in ("qemu", "kernel", "initrd"):
        (tmp_path / name).write_text(name)
    return VmSpec(
        name="pod",
        run_dir=Path("/run/pod"),
        qemu=tmp_path / "qemu",
        kernel=tmp_path / "kernel",
        initrd=tmp_path / "initrd",
        vcpus=3,
        memory_mib=1536,
        max_vcpus=4,
        max_memory_mib=8192,
        accelerator="tcg",
        shared_fs=FS,
    )


def settings(number: int = 1, **hypervisor) -> Config:
    known = {"default_vcpus": 1, "default_memory": 512, **hypervisor}
    factory = FactoryConfig(vm_cache_number=number)
    return Config(source=Path("/c.toml"), hypervisor=HypervisorConfig(**known), factory=factory)


def cached(static: bool = False, number: int = 1):
    return plan_cache(settings(number), plan_range(settings().hypervisor, static, Limits(2, 1024), HOST), HOST)


def test_there_is_no_cache_by_default():
    assert cached(number=0) is None
    assert FactoryConfig().vm_cache_number == 0


@pytest.mark.parametrize(("static", "size"), [(False, VmSize(1, 512)), (True, VmSize(3, 1536))])
def test_waiting_vms_have_the_configurations_size_unless_vms_never_grow(static, size):
    assert cached(static).size == size


def test_pods_that_differ_in_what_is_plugged_in_take_the_same_vms(spec: VmSpec):
    plan = cached()
    other = replace(spec, name="other", run_dir=Path("/run/other"), vcpus=1, memory_mib=512, shared_fs=None)
    assert vm_json(base_spec(spec, plan)) == vm_json(base_spec(other, plan))


@pytest.mark.parametrize(
    "change", [{"kernel_params": ("quiet",)}, {"machine_type": "pc-q35-7.2"}, {"debug": True}, {"max_vcpus": 2}]
)
def test_another_vm_is_told_with_what_differs(spec: VmSpec, change):
    plan = cached()
    text = vm_json(base_spec(spec, plan))
    found = difference(vm_json(base_spec(replace(spec, **change), plan)), text)
    assert "vm: " in found
    assert "\n" not in found


def test_a_file_that_was_replaced_makes_another_vm(spec: VmSpec):
    plan = cached()
    before = vm_json(base_spec(spec, plan))
    spec.kernel.write_text("upgraded")
    assert "kernel" in difference(before, vm_json(base_spec(spec, plan)))


@pytest.mark.parametrize("theirs", ["", "[]", "{}", '{"format": 0}', "\x00", '{"HypervisorType": "qemu"}'])
def test_a_server_of_another_version_is_not_asked_for_a_vm(spec: VmSpec, theirs: str):
    assert difference(theirs, vm_json(base_spec(spec, cached())))


def test_the_agents_configuration_counts():
    one, other = agent_json(AgentConfig()), agent_json(AgentConfig(enable_debug=True))
    assert difference(one, one) == ""
    assert "enable_debug" in difference(other, one) or difference(other, one)


@pytest.mark.parametrize(
    ("fs", "words"), [(NinepFs(Path("/s"), "kataShared"), "virtio-9p"), (replace(FS, cache_size_mib=64), "DAX")]
)
def test_what_can_not_be_plugged_in_has_to_be_booted(spec: VmSpec, fs, words: str):
    assert words in unfit(replace(spec, shared_fs=fs))
    assert unfit(spec) == ""
