"""How large a VM has to be for its containers: pure arithmetic.

Kata's rule: the configuration's defaults are the VM's own share, and the limits of all containers come on top. What the
VM booted with is its least size; what the configuration and the host allow is its greatest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from config import HypervisorConfig
from sandbox.oci import Resources
from sandbox.sizing import CPU_DIGITS, HostSize, Limits, VmSize, limits_of, own_vcpus, vm_size


@dataclass(frozen=True)
class Range:
    """Between which sizes a VM moves; `own_*` is its own share."""

    least: VmSize
    most: VmSize
    own_vcpus: float
    own_memory_mib: int

    @property
    def is_fixed(self) -> bool:
        """Whether the VM never changes its size (`static_sandbox_resource_mgmt`, or nothing to grow to)."""
        return self.least == self.most

    def wanted(self, demand: Iterable[Limits]) -> VmSize:
        """The size for a demand, whatever the VM may have."""
        items = list(demand)
        vcpus = math.ceil(round(self.own_vcpus + sum(item.cpus for item in items), CPU_DIGITS))
        memory = self.own_memory_mib + sum(item.memory_mib for item in items)
        return VmSize(max(vcpus, self.least.vcpus), max(memory, self.least.memory_mib))

    def bounded(self, size: VmSize) -> VmSize:
        """`size`, or as much of it as the VM may have."""
        return VmSize(min(size.vcpus, self.most.vcpus), min(size.memory_mib, self.most.memory_mib))


def plan_range(hypervisor: HypervisorConfig, static: bool, limits: Limits, host: HostSize) -> Range:
    """The sizes of a VM that boots for a workload with `limits`; a `static` one keeps what it boots with."""
    least = vm_size(hypervisor.default_vcpus, hypervisor.default_memory, hypervisor.default_maxvcpus, limits, host)
    most = VmSize(
        max(least.vcpus, hypervisor.most_vcpus(host.cpus)),
        max(least.memory_mib, min(hypervisor.default_maxmemory or host.memory_mib, host.memory_mib)),
    )
    return Range(
        least,
        least if static else most,
        own_vcpus(hypervisor.default_vcpus, host.cpus),
        hypervisor.default_memory,
    )


def changed(old: Limits, resources: Resources) -> Limits:
    """The limits after an update, which leaves as it is what it does not name."""
    new = limits_of(resources)
    cpu, memory = resources.cpu, resources.memory
    names_cpu = cpu is not None and (cpu.quota is not None or bool(cpu.cpus))
    names_memory = (memory is not None and memory.limit is not None) or bool(resources.hugepage_limits)
    return Limits(new.cpus if names_cpu else old.cpus, new.memory_mib if names_memory else old.memory_mib)
