"""KVM or TCG: which one will work on this host, and why.

A /dev/kvm that opens is not enough: hosts exist where it does, while no virtualisation extension is there and a guest
only spins. So `auto` wants the CPU's flag and a VM that can be created before it trusts KVM; TCG always works, slowly.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from hypervisor.errors import HypervisorError
from hypervisor.vm import AcceleratorName

#: linux/kvm.h: _IO(KVMIO, 0x00), _IO(KVMIO, 0x01), and the only API version there has been since 2007.
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_API_VERSION = 12
_X86 = ("x86_64", "i686")


@dataclass(frozen=True)
class Accelerator:
    """The choice, and the fact that made it in one line for the log."""

    name: AcceleratorName
    reason: str


@dataclass(frozen=True)
class KvmFacts:
    """What a probe of the host found."""

    machine: str
    cpu_flags: frozenset[str]
    #: Why /dev/kvm can't be used, or None if a VM was created on it.
    device_error: str | None


def resolve(wanted: str = "auto") -> Accelerator:
    """The accelerator for `auto`, `kvm` or `tcg` on this host; HypervisorError as `decide`."""
    facts = KvmFacts("", frozenset(), None) if wanted == "tcg" else probe()
    return decide(wanted, facts)


def decide(wanted: str, facts: KvmFacts) -> Accelerator:
    """Choose from facts alone. Raises HypervisorError for a forced KVM that won't work, and for an unknown name."""
    if wanted not in ("auto", "kvm", "tcg"):
        raise HypervisorError(f"accelerator {wanted!r} is unknown: use auto, kvm or tcg")
    if wanted == "tcg":
        return Accelerator("tcg", "configured")
    problem = kvm_problem(facts)
    if problem is None:
        return Accelerator("kvm", "a VM can be created on /dev/kvm")
    if wanted == "kvm":
        raise HypervisorError(f'KVM can\'t be used: {problem}; repair that, or set accelerator = "auto" or "tcg"')
    return Accelerator("tcg", f"no KVM: {problem}")


def kvm_problem(facts: KvmFacts) -> str | None:
    """Why KVM will not work, or None."""
    if facts.machine in _X86 and not facts.cpu_flags & {"vmx", "svm"}:
        return "the CPU shows no virtualisation extension (vmx or svm in /proc/cpuinfo), enable it or nesting"
    return facts.device_error


def probe(device: Path = Path("/dev/kvm"), cpuinfo: Path = Path("/proc/cpuinfo")) -> KvmFacts:
    """Look at the host: a few system calls, nothing is left open."""
    return KvmFacts(os.uname().machine, cpu_flags(cpuinfo.read_text()), try_kvm(device))


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The first CPU's flags in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def try_kvm(device: Path) -> str | None:
    """Create a VM on `device` and drop it again; the problem in one line, or None."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"{device} can't be opened ({error.strerror})"
    try:
        version = fcntl.ioctl(fd, KVM_GET_API_VERSION, 0)
        if version != KVM_API_VERSION:
            return f"{device} speaks API version {version}, not {KVM_API_VERSION}"
        os.close(fcntl.ioctl(fd, KVM_CREATE_VM, 0))
    except OSError as error:
        return f"{device} can't create a VM ({error.strerror})"
    finally:
        os.close(fd)
    return None
