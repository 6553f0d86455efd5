"""QEMU's whole command line as a pure function of the VM's spec and the descriptors it inherits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypervisor import devices
from hypervisor.arguments import absolute, option, plain
from hypervisor.errors import HypervisorError
from hypervisor.kernel_params import kernel_command_line
from hypervisor.vm import VmSpec

#: What Kata allows, and more than any pod has used.
MAX_BRIDGES = 5
MAX_ROOT_PORTS = 16
_Q35 = re.compile(r"q35|pc-q35-[\w.]+")


@dataclass(frozen=True)
class Inherited:
    """Descriptors that QEMU finds open. Exactly one of `agent_listener` and `vhost_vsock` is used."""

    monitor: int
    console: int
    agent_listener: int | None = None
    vhost_vsock: int | None = None
    guest_cid: int | None = None
    #: A second monitor, on which QEMU's greeting waits for whoever the VM is handed to.
    spare_monitor: int | None = None


def command_line(spec: VmSpec, fds: Inherited) -> list[str]:
    """The arguments to run `spec.qemu` with, that included.

    Raises HypervisorError for what QEMU would misread (control characters, relative paths) or can't do.
    """
    _check(spec)
    arguments = [
        absolute(spec.qemu, "QEMU"),
        *option("-name", None, {"guest": spec.name, "debug-threads": True}),
        # Nothing that is not asked for. (-nographic would have the firmware write to the guest's console.)
        *("-no-user-config", "-nodefaults", "-display", "none"),
        # A guest that restarts has ended.
        "-no-reboot",
        *option("-rtc", None, {"base": "utc", "clock": "host"}),
    ]
    for device in _devices(spec, fds):
        arguments += device.arguments()
    if spec.saved is not None:
        arguments += ["-S", "-incoming", "defer"]
    if spec.seccomp_sandbox:
        arguments += ["-sandbox", plain(spec.seccomp_sandbox, "-sandbox")]
    arguments += ["-kernel", absolute(spec.kernel, "kernel")]
    if spec.initrd is not None:
        arguments += ["-initrd", absolute(spec.initrd, "initrd")]
    return [*arguments, "-append", kernel_command_line(spec)]


def _devices(spec: VmSpec, fds: Inherited) -> Iterator[devices.Device]:
    """Bridges before all that gets its PCI slot from QEMU, for theirs are fixed."""
    yield devices.Machine(spec.machine_type)
    yield devices.Accelerator(spec.accelerator, spec.cpu_features)
    yield devices.Cpus(spec.vcpus, max(spec.vcpus, spec.max_vcpus))
    yield _memory(spec)
    yield devices.Monitor(fds.monitor)
    if fds.spare_monitor is not None:
        yield devices.Monitor(fds.spare_monitor, "spare")
    yield devices.Console(fds.console)
    yield devices.PanicNotifier()
    yield from map(devices.PciBridge, range(spec.pci_bridges))
    yield from map(devices.RootPort, range(spec.pcie_root_ports))
    if spec.virtio_mem_mib:
        yield devices.VirtioMem(spec.virtio_mem_mib)
    if spec.free_page_reporting:
        yield devices.Balloon()
    yield devices.Rng(spec.entropy_source)
    if spec.image is not None:
        yield devices.RootImage(spec.image)
    if spec.shared_fs is not None:
        yield spec.shared_fs
    yield from spec.nics
    yield _agent(spec, fds)


def _memory(spec: VmSpec) -> devices.Memory:
    sizes = spec.memory_mib, spec.max_memory_mib, spec.memory_slots
    if spec.saved is not None:
        return devices.Memory(*sizes, Path(f"/proc/self/fd/{spec.saved.memory}"), spec.saved.is_shared)
    return devices.Memory(*sizes, spec.ram_file)


def _agent(spec: VmSpec, fds: Inherited) -> devices.Device:
    if spec.agent_channel == "virtio-serial" and fds.agent_listener is not None:
        return devices.AgentSerial(fds.agent_listener)
    if spec.agent_channel == "vsock" and fds.vhost_vsock is not None and fds.guest_cid is not None:
        return devices.AgentVsock(fds.guest_cid, fds.vhost_vsock)
    raise HypervisorError(f"no descriptor for agent channel {spec.agent_channel!r}")


def _check(spec: VmSpec) -> None:
    """Refuse what QEMU would refuse less clearly, or take for something else."""
    if not _Q35.fullmatch(spec.machine_type):
        raise HypervisorError(f"machine type {spec.machine_type!r} is not supported: use q35")
    if spec.initrd is None and spec.image is None:
        raise HypervisorError("neither initrd nor image: the guest has no userland")
    if spec.vcpus < 1 or spec.memory_mib < 1:
        raise HypervisorError(f"a VM of {spec.vcpus} vCPUs and {spec.memory_mib} MiB can't run")
    if not 0 <= spec.pci_bridges <= MAX_BRIDGES:
        raise HypervisorError(f"{spec.pci_bridges} PCI bridges: 0 to {MAX_BRIDGES} are possible")
    if not 0 <= spec.pcie_root_ports <= MAX_ROOT_PORTS:
        raise HypervisorError(f"{spec.pcie_root_ports} PCIe root ports: 0 to {MAX_ROOT_PORTS} are possible")
