"""Keys that Kata knows and this runtime does not have, each with Kata's defaults and what becomes of other
values.

A configuration written for Kata must load; what it asks for must not be dropped in silence. So every key of
Kata's configuration for QEMU, of its Go and of its Rust runtime, is either a field of a section or in a
table here. A stance is *refused* where going on would break a promise (security, isolation, a limit, what
the pod gets to see), *ignored* where the pod only runs differently tuned, *harmless* where any value agrees
with what this runtime does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from config.keys import Stance, harmless, ignored, refused


@dataclass(frozen=True)
class ForeignKey:
    """A key of Kata's; `defaults` are the values that mean "as Kata comes" (lists as tuples); none: every
    value counts.
    """

    stance: Stance
    defaults: tuple[object, ...] = ()

    def is_default(self, value: object) -> bool:
        """Whether `value`, as tomllib gave it, is one of Kata's defaults; `true` is not 1 here."""
        plain = tuple(value) if isinstance(value, list) else value
        return any(plain == each and isinstance(plain, bool) == isinstance(each, bool) for each in self.defaults)


def _key(stance: Stance, *defaults: object) -> ForeignKey:
    return ForeignKey(stance, defaults)


def _renamed(name: str) -> ForeignKey:
    return _key(refused(f'that is its name in runtime-rs, here it is "{name}"'))


_CONFIDENTIAL = refused("this runtime has no confidential guests, so the guest's memory would be open to the host")
_FIRMWARE = refused("the guest is booted directly from its kernel, so no firmware of the user's would run")
_VFIO = refused("devices are not passed through to the VM by this runtime")
_VHOST_USER = harmless("only with enable_vhost_user_store")
_NUMA = ignored("the VM's memory and CPUs are not placed on NUMA nodes")
_TRACING = ignored("no traces are sent by this runtime")
_SWAP = ignored("the guest gets no swap")
_DUMP = ignored("the memory of a guest that panicked is not dumped")
_IO_TUNING = ignored("QEMU's input and output are not tuned in this way")
_GO_LAYOUT = refused("that belongs to runtime-rs; this runtime reads the layout of Kata's Go runtime")
_LOG_LEVEL = ignored("set enable_debug instead")
_ALLOWED = harmless("says what an annotation may ask for that this runtime does not have")

_QEMU = {
    "rootless": _key(refused("QEMU runs as root here, so its privileges would not be dropped"), False),
    "confidential_guest": _key(_CONFIDENTIAL, False),
    "sev_snp_guest": _key(_CONFIDENTIAL, False),
    "tdx_quote_generation_service_socket_port": _key(harmless("only with confidential_guest")),
    "guest_extension_images": _key(refused("the guest would lack what the images hold"), (), ""),
    "kernel_verity_params": _key(refused("the image's integrity would not be verified"), ""),
    "firmware": _key(_FIRMWARE, ""),
    "firmware_volume": _key(_FIRMWARE, ""),
    "pflashes": _key(_FIRMWARE, ()),
    "machine_accelerators": _key(refused("options of the machine are chosen by this runtime"), ""),
    "memory_offset": _key(ignored("it makes room for an NVDIMM, and the image is not one"), 0),
    "enable_mem_prealloc": _key(refused("the VM's memory would not be reserved"), False),
    "enable_hugepages": _key(refused("the VM's memory would not come from huge pages"), False),
    "file_mem_backend": _key(ignored("the VM's memory is anonymous shared memory"), ""),
    "valid_file_mem_backends": _key(_ALLOWED),
    "enable_numa": _key(_NUMA, False),
    "numa_mapping": _key(_NUMA, ()),
    "enable_iommu": _key(refused("the guest would have no IOMMU"), False),
    "enable_iommu_platform": _key(refused("the guest's devices would bypass the IOMMU"), False),
    "virtio_fs_inode_file_handles": _key(ignored("give virtiofsd the option in virtio_fs_extra_args"), "prefer"),
    "enable_iothreads": _key(_IO_TUNING, False),
    "indep_iothreads": _key(_IO_TUNING, 0),
    "enable_vhost_user_store": _key(refused("vhost-user block devices would not be found"), False),
    "vhost_user_store_path": _key(_VHOST_USER),
    "valid_vhost_user_store_paths": _key(_VHOST_USER),
    "vhost_user_reconnect_timeout_sec": _key(_VHOST_USER),
    "extra_monitor_socket": _key(ignored("QEMU gets no further monitor"), ""),
    "disable_nesting_checks": _key(ignored("accelerator says how to run the guest"), False),
    "disable_image_nvdimm": _key(harmless("the image is always a virtio-blk disk"), False),
    "hot_plug_vfio": _key(_VFIO, "no-port"),
    "cold_plug_vfio": _key(_VFIO, "no-port"),
    "pcie_root_port": _key(ignored("this runtime decides on the PCI ports it needs"), 0),
    "pcie_switch_port": _key(ignored("this runtime decides on the PCI ports it needs"), 0),
    "guest_memory_dump_path": _key(_DUMP, ""),
    "guest_memory_dump_paging": _key(_DUMP, False),
    "enable_guest_swap": _key(_SWAP, False),
    "use_legacy_serial": _key(ignored("the console is always there"), False),
    "disable_selinux": _key(harmless("QEMU gets no SELinux label from this runtime"), False),
    "disable_guest_selinux": _key(refused("the guest's containers would not be confined by SELinux"), True),
    # Of runtime-rs only.
    "seccomp_sandbox": _renamed("seccompsandbox"),
    "vm_rootfs_driver": _key(harmless("the image is always a virtio-blk disk")),
    "overhead_vcpus": _key(ignored("a VM starts with default_vcpus"), 0.2),
    "overhead_memory": _key(ignored("a VM starts with default_memory"), 32),
    "queue_size": _key(_IO_TUNING, 128),
    "num_queues": _key(_IO_TUNING, 1),
    "network_queues": _key(_IO_TUNING, 1),
    "ctlpath": _key(harmless("no program but QEMU is run"), ""),
    "valid_ctlpaths": _key(_ALLOWED),
    "prefetch_list_path": _key(ignored("there is no Nydus here"), ""),
    "hugepage_type": _key(harmless("only with enable_hugepages")),
    "virtio_fs_is_dax": _key(ignored("virtio_fs_cache_size above 0 asks for DAX"), False),
    "guest_swap_path": _key(_SWAP, ""),
    "guest_swap_size_percent": _key(_SWAP),
    "guest_swap_create_threshold_secs": _key(_SWAP),
    "rootless_user": _key(refused("QEMU runs as root here, so its privileges would not be dropped"), ""),
    "boot_to_be_template": _key(_GO_LAYOUT, False),
    "boot_from_template": _key(_GO_LAYOUT, False),
    "memory_path": _key(_GO_LAYOUT, ""),
    "device_state_path": _key(_GO_LAYOUT, ""),
    "hotplug_vfio_on_root_bus": _key(_VFIO, False),
    "log_level": _key(_LOG_LEVEL),
    "initdata": _key(_CONFIDENTIAL, ""),
    "selinux_label": _key(refused("QEMU would not be confined by SELinux"), ""),
}

_AGENT = {
    "enable_tracing": _key(_TRACING, False),
    "cdh_api_timeout": _key(ignored("there is no confidential data hub"), 50),
    "container_pipe_size": _key(ignored("the containers' pipes have the kernel's size"), 0),
    "launch_process_timeout": _key(ignored("the agent here launches no further processes"), 6),
    # Of runtime-rs only.
    "policy": _key(refused("requests would not be checked against the policy"), ""),
    "dial_timeout_ms": _key(ignored("set dial_timeout instead"), 10),
    "reconnect_timeout_ms": _key(ignored("set dial_timeout instead"), 3000),
    "request_timeout_ms": _key(ignored("each request has its own deadline"), 30000),
    "create_container_timeout": _key(ignored("set create_container_timeout in [runtime] instead"), 30),
    "cdh_api_timeout_ms": _key(ignored("there is no confidential data hub"), 50000),
    "health_check_request_timeout_ms": _key(ignored("set dial_timeout instead"), 90000),
    "server_port": _key(refused("the agent is called on port 1024 only"), 1024),
    "log_port": _key(ignored("the agent's log comes with the guest's console"), 1025),
    "debug_console_port": _key(ignored("there is no choice of port"), 1026),
    "passfd_listener_port": _key(harmless("streams go through the agent's calls")),
}

_MEM_AGENT = {
    name: _key(ignored("memory is not reclaimed by the guest's memory agent"), default)
    for name, default in {
        "mem_agent_enable": False,
        "memcg_disable": False,
        "memcg_swap": False,
        "memcg_swappiness_max": 50,
        "memcg_period_secs": 600,
        "memcg_period_psi_percent_limit": 1,
        "memcg_eviction_psi_percent_limit": 1,
        "memcg_eviction_run_aging_count_min": 3,
        "compact_disable": False,
        "compact_period_secs": 600,
        "compact_period_psi_percent_limit": 1,
        "compact_psi_percent_limit": 5,
        "compact_sec_max": 300,
        "compact_order": 9,
        "compact_threshold": 1024,
        "compact_force_times": 2**64 - 1,
    }.items()
}

_RUNTIME = {
    "enable_vcpus_pinning": _key(ignored("vCPUs run wherever the host puts them"), False),
    "guest_selinux_label": _key(refused("the guest's containers would not be confined by SELinux"), ""),
    "enable_tracing": _key(_TRACING, False),
    "jaeger_endpoint": _key(_TRACING, ""),
    "jaeger_user": _key(_TRACING, ""),
    "jaeger_password": _key(_TRACING, ""),
    "disable_new_netns": _key(refused("the VM's network always is that of the pod's own namespace"), False),
    "vfio_mode": _key(_VFIO, "guest-kernel"),
    "emptydir_mode": _key(refused("volumes would be shared from the host, not kept on a block device"), "shared-fs"),
    "experimental": _key(refused("this runtime has none of Kata's experimental features"), ()),
    "enable_pprof": _key(ignored("there is no Go profiler here"), False),
    "dan_conf": _key(refused("directly attached networks would be missing"), "/run/kata-containers/dans", ""),
    "pod_resource_api_sock": _key(_VFIO, ""),
    # Of runtime-rs only.
    "name": _key(_GO_LAYOUT, "virt_container"),
    "hypervisor_name": _key(refused("qemu is the only hypervisor of this runtime"), "qemu"),
    "agent_name": _key(refused("kata is the only agent of this runtime"), "kata"),
    "use_passfd_io": _key(harmless("streams go through the agent's calls")),
    "keep_abnormal": _key(ignored("a failed pod is always taken down"), False),
    "shared_mounts": _key(refused("containers would not see each other's mounts"), ()),
    "log_level": _key(_LOG_LEVEL),
}

#: By section; a section that is here only has no dataclass.
FOREIGN: Mapping[str, Mapping[str, ForeignKey]] = {
    "hypervisor.qemu": _QEMU,
    "agent.kata": _AGENT,
    "agent.kata.mem_agent": _MEM_AGENT,
    "runtime": _RUNTIME,
    "factory": {},
}
