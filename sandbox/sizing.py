"""How large the VM of a pod is: pure arithmetic on the configuration, the annotations and the spec."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sandbox.annotations import ContainerKind, sandbox_cpus, sandbox_memory_bytes
from sandbox.oci import Resources, Spec

_MIB = 1 << 20
#: Limits of this size and above are "unlimited" written as a number.
_UNLIMITED = 1 << 62
#: The kernel's period of CPU quotas, in microseconds, where a spec names none.
_DEFAULT_PERIOD = 100_000
#: Digits of a CPU that count: sums of fractions must not ask for one more because of how they are represented.
CPU_DIGITS = 6


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


@dataclass(frozen=True)
class Limits:
    """What a workload may use; 0 where it sets no limit."""

    cpus: float = 0.0
    memory_mib: int = 0


def requested(spec: Spec, kind: ContainerKind) -> Limits:
    """What the workload of a sandbox may use: a pod tells by CRI's sizing annotations, a single container by its own
    limits.
    """
    if kind is ContainerKind.SANDBOX:
        memory = sandbox_memory_bytes(spec.annotations)
        return Limits(sandbox_cpus(spec.annotations), _mib(memory))
    return limits_of(spec.linux.resources or Resources())


def limits_of(resources: Resources) -> Limits:
    """A container's own limits. Huge pages are memory of their own; a set of the host's CPUs without a quota counts as
    many CPUs as it has (Kata's rule).
    """
    cpu, memory = resources.cpu, resources.memory
    cpus = 0.0
    if cpu and cpu.quota and cpu.quota > 0:
        cpus = cpu.quota / (cpu.period if cpu.period and cpu.period > 0 else _DEFAULT_PERIOD)
    elif cpu and cpu.cpus:
        cpus = float(cpu_count(cpu.cpus))
    pages = sum(item.limit for item in resources.hugepage_limits if 0 < item.limit < _UNLIMITED)
    limit = memory.limit if memory and memory.limit else 0
    return Limits(cpus, _mib((limit if 0 < limit < _UNLIMITED else 0) + pages))


def cpu_count(text: str) -> int:
    """How many CPUs a list in the kernel's format has, `0-2,5`; 0 for what is no such list."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_cpu(first) or (dash and not _is_cpu(last)):
            return 0
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return len(numbers)


def _is_cpu(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 5


def _mib(size: int) -> int:
    return math.ceil(size / _MIB)


def vm_size(default_vcpus: float, default_memory_mib: int, max_vcpus: int, wanted: Limits, host: HostSize) -> VmSize:
    """Kata's rule: the defaults are the VM's own share, the workload's limits come on top; the host is the ceiling.

    `max_vcpus` of 0 means as many as the host has.
    """
    base = own_vcpus(default_vcpus, host.cpus)
    ceiling = min(max_vcpus or host.cpus, host.cpus)
    vcpus = max(1, min(math.ceil(round(base + wanted.cpus, CPU_DIGITS)), ceiling))
    memory_mib = min(default_memory_mib + wanted.memory_mib, host.memory_mib)
    return VmSize(vcpus, memory_mib)


def own_vcpus(default_vcpus: float, host_cpus: int) -> float:
    """The VM's own share of CPUs: below 0 means all of the host's, 0 means one."""
    return (default_vcpus or 1.0) if default_vcpus >= 0 else float(host_cpus)
