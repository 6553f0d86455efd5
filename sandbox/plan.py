"""What the start of a sandbox will do, as plain values, worked out before anything is touched.

The configuration says what a VM is, the spec's annotations how large it has to be.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import Config, HypervisorConfig
from hypervisor.accelerator import Accelerator
from hypervisor.vm import AgentChannel, VmSpec
from hypervisor.vsock import VHOST_VSOCK
from sandbox.annotations import ContainerKind
from sandbox.errors import FailedPreconditionError
from sandbox.guest_setup import create_sandbox_arguments
from sandbox.guest_spec import KATA_DROPPED, OWN_DROPPED
from sandbox.kernel_params import GuestKind, guest_kind, kernel_params
from sandbox.oci import Spec
from sandbox.sharing.plan import plan_sharing
from sandbox.sharing.share import SharingPlan
from sandbox.sizing import HostSize, VmSize, requested, vm_size


@dataclass(frozen=True)
class SandboxPlan:
    """All that `Machine` needs; times in seconds."""

    vm: VmSpec
    sharing: SharingPlan
    create_sandbox: dict[str, Any]
    #: Whether the guest applies the containers' system call filters.
    seccomp: bool
    #: Kinds of namespaces that the guest's agent sees to by itself.
    dropped_namespaces: frozenset[str]
    dial_timeout: float
    create_timeout: float


@dataclass(frozen=True)
class Host:
    """What this host has and can do: the inputs of a plan that are not written anywhere."""

    size: HostSize
    accelerator: Accelerator
    has_vsock: bool


def host_size() -> HostSize:
    """Processors this process may use, and the host's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return HostSize(len(os.sched_getaffinity(0)), memory >> 20)


def plan_sandbox(
    settings: Config, spec: Spec, kind: ContainerKind, sandbox_id: str, run_dir: Path, host: Host
) -> SandboxPlan:
    """The plan for a sandbox whose first container has `spec`.

    Raises `sandbox.annotations.AnnotationError` for sizes that are no numbers, `FailedPreconditionError` for a guest
    that can't be reached on this host.
    """
    hypervisor = settings.hypervisor
    sharing = plan_sharing(hypervisor, run_dir)
    size = vm_size(
        hypervisor.default_vcpus,
        hypervisor.default_memory,
        hypervisor.default_maxvcpus,
        requested(spec, kind),
        host.size,
    )
    return SandboxPlan(
        vm=_vm(settings, sandbox_id, run_dir, sharing, size, host),
        sharing=sharing,
        create_sandbox=create_sandbox_arguments(
            spec, kind, sandbox_id, settings.agent.kernel_modules, sharing.sandbox_storages
        ),
        seccomp=not settings.runtime.disable_guest_seccomp,
        dropped_namespaces=KATA_DROPPED if _kind(hypervisor).is_stock else OWN_DROPPED,
        dial_timeout=settings.agent.dial_timeout,
        create_timeout=settings.runtime.create_container_timeout,
    )


def _vm(settings: Config, sandbox_id: str, run_dir: Path, sharing: SharingPlan, size: VmSize, host: Host) -> VmSpec:
    hypervisor, agent = settings.hypervisor, settings.agent
    kind = _kind(hypervisor)
    return VmSpec(
        name=sandbox_id,
        run_dir=run_dir,
        qemu=hypervisor.path,
        kernel=hypervisor.kernel,
        initrd=hypervisor.initrd,
        image=hypervisor.image,
        image_type=hypervisor.rootfs_type,
        vcpus=size.vcpus,
        memory_mib=size.memory_mib,
        accelerator=host.accelerator.name,
        kernel_params=kernel_params(
            kind,
            hypervisor.kernel_params.split(),
            debug=hypervisor.enable_debug,
            agent_debug=agent.enable_debug,
            debug_console=agent.debug_console_enabled,
        ),
        agent_channel=agent_channel(hypervisor, kind, host.has_vsock),
        machine_type=hypervisor.machine_type,
        cpu_features=hypervisor.cpu_features,
        shared_fs=sharing.device,
        entropy_source=hypervisor.entropy_source,
        seccomp_sandbox=hypervisor.seccompsandbox,
        debug=hypervisor.enable_debug,
    )


def _kind(hypervisor: HypervisorConfig) -> GuestKind:
    return guest_kind(image=hypervisor.image is not None, initrd=hypervisor.initrd is not None)


def agent_channel(hypervisor: HypervisorConfig, kind: GuestKind, has_vsock: bool) -> AgentChannel:
    """Which way to the agent: as configured, else vsock where the host has it; a stock guest knows nothing else.

    Raises `FailedPreconditionError` where the guest could not be reached.
    """
    if hypervisor.agent_channel == "virtio-serial":
        return "virtio-serial"
    if has_vsock:
        return "vsock"
    missing = f"this host has no {VHOST_VSOCK}: load the module vhost_vsock"
    if hypervisor.agent_channel == "vsock":
        raise FailedPreconditionError(f'agent_channel = "vsock", but {missing}')
    if kind.is_stock:
        raise FailedPreconditionError(
            f"the configuration has only one of image and initrd, as for a stock Kata guest, which is reached over "
            f"vsock alone, but {missing}"
        )
    return "virtio-serial"
