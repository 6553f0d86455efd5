"""What the start of a sandbox will do, as plain values, worked out before anything is touched.

The configuration says what a VM is, the spec's annotations how large it has to be.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config import Config, HypervisorConfig
from hypervisor.accelerator import Accelerator
from hypervisor.hotplug.disks import Aio, DiskSettings
from hypervisor.vm import AgentChannel, VmSpec
from hypervisor.vsock import VHOST_VSOCK
from sandbox.annotations import ContainerKind, pod_names
from sandbox.cache.plan import CachePlan, plan_cache
from sandbox.errors import FailedPreconditionError
from sandbox.factory.plan import FactoryPlan, plan_factory
from sandbox.guest_setup import create_sandbox_arguments
from sandbox.guest_spec import KATA_DROPPED, OWN_DROPPED
from sandbox.kernel_params import GuestKind, guest_kind, kernel_params
from sandbox.network.namespace import namespace_of
from sandbox.network.plan import MAX_QUEUES, NetworkPlan
from sandbox.oci import Spec
from sandbox.resources.cgroup_path import cgroup_path, overhead_path
from sandbox.resources.demand import Range, plan_range
from sandbox.sharing.plan import plan_sharing
from sandbox.sharing.share import SharingPlan
from sandbox.sizing import HostSize, VmSize, requested
from sandbox.storage.container import StorageRules

#: A boot waits for devices and pages too, so one a processor would leave some of it idle.
_BOOTS_PER_CPU = 2
_AIO: dict[str, Aio] = {"threads": "threads", "native": "native", "io_uring": "io_uring"}


@dataclass(frozen=True)
class SandboxPlan:
    """All that `Machine` needs; times in seconds."""

    vm: VmSpec
    #: Between which sizes the VM moves.
    bounds: Range
    #: The pod's cgroup on the host, below the roots of the hierarchies.
    cgroup: str
    #: That of all but the vCPUs; empty if they are together.
    overhead_cgroup: str
    sharing: SharingPlan
    create_sandbox: dict[str, Any]
    #: Whether the guest applies the containers' system call filters.
    seccomp: bool
    #: Kinds of namespaces that the guest's agent sees to by itself.
    dropped_namespaces: frozenset[str]
    dial_timeout: float
    create_timeout: float
    #: How many VMs of the node boot at a time.
    parallel_boots: int
    network: NetworkPlan = field(default_factory=NetworkPlan)
    #: How containers' files reach the guest, and how disks are attached.
    storage: StorageRules = field(default_factory=StorageRules)
    disks: DiskSettings = field(default_factory=DiskSettings)
    #: Where the VM may come from besides a boot; None for nowhere.
    factory: FactoryPlan | None = None
    cache: CachePlan | None = None
    #: What Kubernetes calls the pod: see `pod_names`.
    names: Mapping[str, str] = field(default_factory=dict)


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
    sharing = plan_sharing(hypervisor, run_dir, settings.runtime.sandbox_bind_mounts)
    bounds = plan_range(hypervisor, settings.runtime.static_sandbox_resource_mgmt, requested(spec, kind), host.size)
    return SandboxPlan(
        vm=_vm(settings, sandbox_id, run_dir, sharing, bounds, host),
        bounds=bounds,
        cgroup=cgroup_path(spec.linux.cgroups_path, sandbox_id),
        overhead_cgroup="" if settings.runtime.sandbox_cgroup_only else overhead_path(sandbox_id),
        sharing=sharing,
        create_sandbox=create_sandbox_arguments(
            spec,
            kind,
            sandbox_id,
            (*settings.agent.kernel_modules, *_memory_modules(hypervisor)),
            sharing.sandbox_storages,
            hypervisor.guest_hook_path,
        ),
        seccomp=not settings.runtime.disable_guest_seccomp,
        dropped_namespaces=KATA_DROPPED if _kind(hypervisor).is_stock else OWN_DROPPED,
        dial_timeout=settings.agent.dial_timeout,
        create_timeout=settings.runtime.create_container_timeout,
        parallel_boots=settings.runtime.max_parallel_boots or _BOOTS_PER_CPU * host.size.cpus,
        network=_network(settings, spec, bounds.least),
        storage=StorageRules(
            plugs_rootfs=not hypervisor.disable_block_device_use,
            local_empty_dirs=not settings.runtime.disable_guest_empty_dir,
            kubelet_root=settings.runtime.kubelet_root_dir,
        ),
        disks=_disks(hypervisor),
        factory=plan_factory(settings, bounds, host.size),
        cache=plan_cache(settings, bounds, host.size),
        names=pod_names(spec.annotations),
    )


def _vm(settings: Config, sandbox_id: str, run_dir: Path, sharing: SharingPlan, bounds: Range, host: Host) -> VmSpec:
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
        vcpus=bounds.least.vcpus,
        memory_mib=bounds.least.memory_mib,
        max_vcpus=bounds.most.vcpus,
        max_memory_mib=bounds.most.memory_mib if hypervisor.memory_slots or hypervisor.enable_virtio_mem else 0,
        memory_slots=hypervisor.memory_slots,
        virtio_mem=hypervisor.enable_virtio_mem,
        free_page_reporting=hypervisor.reclaim_guest_freed_memory,
        accelerator=host.accelerator.name,
        kernel_params=kernel_params(
            kind,
            [*_patience(host), *hypervisor.kernel_params.split()],
            debug=hypervisor.enable_debug,
            agent_debug=agent.enable_debug,
            debug_console=agent.debug_console_enabled,
        ),
        agent_channel=agent_channel(hypervisor, kind, host.has_vsock),
        machine_type=hypervisor.machine_type,
        cpu_features=hypervisor.cpu_features,
        shared_fs=sharing.device,
        pci_bridges=max(1, hypervisor.default_bridges),
        entropy_source=hypervisor.entropy_source,
        seccomp_sandbox=hypervisor.seccompsandbox,
        debug=hypervisor.enable_debug,
    )


def _memory_modules(hypervisor: HypervisorConfig) -> tuple[str, ...]:
    """Drivers that our guest needs for its memory to come and go; Kata's kernels have them, and no modules to load."""
    if _kind(hypervisor).is_stock:
        return ()
    wanted = (("virtio_mem", hypervisor.enable_virtio_mem), ("virtio_balloon", hypervisor.reclaim_guest_freed_memory))
    return tuple(name for name, is_used in wanted if is_used)


def _network(settings: Config, spec: Spec, size: VmSize) -> NetworkPlan:
    hypervisor = settings.hypervisor
    return NetworkPlan(
        namespace=namespace_of(spec),
        model=settings.runtime.internetworking_model,
        queues=min(size.vcpus, MAX_QUEUES),
        vhost=not hypervisor.disable_vhost_net,
        rx_rate=hypervisor.rx_rate_limiter_max_rate,
        tx_rate=hypervisor.tx_rate_limiter_max_rate,
    )


def _patience(host: Host) -> list[str]:
    """How long the guest waits for a device that is plugged in: without KVM the agent's own 3 s may be too few."""
    return ["agent.hotplug_timeout=30"] if host.accelerator.name == "tcg" else []


def _disks(hypervisor: HypervisorConfig) -> DiskSettings:
    """The keys `block_device_*`; those of the cache count only if `block_device_cache_set` says so."""
    cached = hypervisor.block_device_cache_set
    return DiskSettings(
        bus="virtio-blk" if hypervisor.block_device_driver == "virtio-blk" else "virtio-scsi",
        aio=_AIO[hypervisor.block_device_aio],
        direct=hypervisor.block_device_cache_direct if cached else None,
        no_flush=hypervisor.block_device_cache_noflush if cached else None,
        logical_sector=hypervisor.block_device_logical_sector_size,
        physical_sector=hypervisor.block_device_physical_sector_size,
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
