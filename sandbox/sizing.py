"""How large the VM of a pod is: pure arithmetic on the configuration, the annotations and the spec."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sandbox.annotations import ContainerKind, sandbox_cpus, sandbox_memory_bytes
from sandbox.oci import Resources, Spec

_MIB = 1 << 20
#: Limits of this size and above are "unlimited" written as a number.
_UNLIMITED = 1 << 62


@dataclass(frozen=True)
class VmSize:
    """What the VM boots with; memory in MiB."""

    vcpus: int
    memory_mib: int


@dataclass(frozen=True)
class HostSize:
    """What the host has; memory in MiB."""

    cpus: int
    memory_mib: int


def requested(spec: Spec, kind: ContainerKind) -> tuple[float, int]:
    """CPUs and bytes of memory that the workload may use; 0 where it sets no limit.

    A pod tells by CRI's sizing annotations; a single container by its own limits.
    """
    if kind is ContainerKind.SANDBOX:
        return sandbox_cpus(spec.annotations), sandbox_memory_bytes(spec.annotations)
    return _limits(spec.linux.resources or Resources())


def _limits(resources: Resources) -> tuple[float, int]:
    cpu, memory = resources.cpu, resources.memory
    cpus = 0.0
    if cpu and cpu.quota and cpu.period and cpu.quota > 0 and cpu.period > 0:
        cpus = cpu.quota / cpu.period
    limit = memory.limit if memory and memory.limit else 0
    return cpus, limit if 0 < limit < _UNLIMITED else 0


def vm_size(
    default_vcpus: float, default_memory_mib: int, max_vcpus: int, wanted: tuple[float, int], host: HostSize
) -> VmSize:
    """Kata's rule: the defaults are the VM's own share, the workload's limits come on top; the host is the ceiling.

    `default_vcpus` of 0 or less, and `max_vcpus` of 0, mean as many as the host has.
    """
    cpus, memory = wanted
    base = default_vcpus if default_vcpus > 0 else host.cpus
    ceiling = min(max_vcpus or host.cpus, host.cpus)
    vcpus = max(1, min(math.ceil(base + cpus), ceiling))
    memory_mib = min(default_memory_mib + math.ceil(memory / _MIB), host.memory_mib)
    return VmSize(vcpus, memory_mib)
