"""Whether a pod's VM may be a clone, and of which template: pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config import Config
from hypervisor.devices import NinepFs, SharedFs
from hypervisor.vm import VmSpec
from sandbox.resources.demand import Range
from sandbox.sizing import HostSize, Limits, VmSize, vm_size

#: How a clone has its memory: a private view of the template's, or a copy.
MemoryWay = Literal["private", "copy"]


@dataclass(frozen=True)
class FactoryPlan:
    """Templates are kept at `path`, and used for `max_age` seconds. `size` is that of the template."""

    path: Path
    max_age: float
    #: As configured: `auto`, or one of the ways.
    memory: str
    size: VmSize


def plan_factory(settings: Config, bounds: Range, host: HostSize) -> FactoryPlan | None:
    """What the configuration asks for; None if every VM is booted.

    The template has the configuration's own size, and its clones grow. Where VMs never grow (`bounds.is_fixed`) each
    size has a template of its own.
    """
    factory = settings.factory
    if not factory.enable_template:
        return None
    size = base_size(settings, bounds, host)
    return FactoryPlan(factory.template_path, factory.template_max_age, factory.template_memory, size)


def base_size(settings: Config, bounds: Range, host: HostSize) -> VmSize:
    """The size of a VM that is there before its pod is."""
    if bounds.is_fixed:
        return bounds.least
    hypervisor = settings.hypervisor
    return vm_size(hypervisor.default_vcpus, hypervisor.default_memory, hypervisor.default_maxvcpus, Limits(), host)


def memory_way(wanted: str, spec: VmSpec) -> MemoryWay:
    """Private memory costs least, so that it is; but virtiofsd could not see what the guest writes to it."""
    if wanted == "auto":
        return "copy" if isinstance(spec.shared_fs, SharedFs) else "private"
    return "private" if wanted == "private" else "copy"


def unfit(wanted: str, spec: VmSpec) -> str:
    """Why a VM like that has to be booted, in words; empty if it has not."""
    fs = spec.shared_fs
    if isinstance(fs, NinepFs):
        return "QEMU can't plug virtio-9p into a running VM"
    if isinstance(fs, SharedFs) and fs.cache_size_mib:
        return "the window of DAX (virtio_fs_cache_size) needs room that only a boot makes"
    if isinstance(fs, SharedFs) and wanted == "private":
        return 'template_memory = "private", and virtio-fs needs memory that virtiofsd can map'
    if spec.virtio_mem_mib:
        return "a virtio-mem device is not in the template's saved state"
    return ""
