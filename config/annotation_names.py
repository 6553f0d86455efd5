"""Which `io.katacontainers.*` annotations Kata has, and which key of the configuration each one stands for.

The list is that of Kata's Go runtime (`virtcontainers/pkg/annotations`) with those that only runtime-rs has. A key that
is in no list here can't be set by a pod, whatever `enable_annotations` says.
"""

from __future__ import annotations

from collections.abc import Mapping

from config.foreign import ForeignKey
from config.keys import harmless, ignored, refused

PREFIX = "io.katacontainers."
HYPERVISOR = f"{PREFIX}config.hypervisor."
#: Names the configuration file itself; see `config.annotations.chosen_file`.
CONFIG_PATH = f"{PREFIX}config_path"

#: What Kata's components tell each other; they say nothing to us.
INTERNAL = (f"{PREFIX}pkg.oci.", f"{PREFIX}fs-opt.")

_RUNTIME = f"{PREFIX}config.runtime."
_AGENT = f"{PREFIX}config.agent."

_HYPERVISOR_NAMES = """
    kernel image initrd path firmware firmware_volume kernel_params kernel_verity_params machine_type
    machine_accelerators cpu_features disable_vhost_net enable_vhost_user_store vhost_user_store_path
    vhost_user_reconnect_timeout_sec guest_hook_path disable_image_nvdimm cold_plug_vfio hot_plug_vfio pcie_root_port
    pcie_switch_port entropy_source use_legacy_serial default_vcpus default_memory memory_slots memory_offset
    enable_virtio_mem enable_mem_prealloc reclaim_guest_freed_memory enable_hugepages enable_iommu
    enable_iommu_platform numa_mapping file_mem_backend msize_9p shared_fs virtio_fs_daemon virtio_fs_cache
    virtio_fs_cache_size virtio_fs_extra_args block_device_driver block_device_aio disable_block_device_use
    enable_iothreads indep_iothreads block_device_cache_set block_device_cache_direct block_device_cache_noflush
    rx_rate_limiter_max_rate tx_rate_limiter_max_rate enable_guest_swap rootless
"""
#: Annotations whose key has another name in the file.
_HYPERVISOR_RENAMED = {
    "default_max_vcpus": "default_maxvcpus",
    "blk_logical_sector_size": "block_device_logical_sector_size",
    "blk_physical_sector_size": "block_device_physical_sector_size",
    "block_device_num_queues": "num_queues",
    "block_device_queue_size": "queue_size",
    "cc_init_data": "initdata",
}
_RUNTIME_NAMES = """
    disable_guest_seccomp guest_selinux_label sandbox_cgroup_only enable_vcpus_pinning enable_pprof experimental
    internetworking_model disable_new_netns vfio_mode create_container_timeout name hypervisor_name agent_name
    shared_mounts
"""
_AGENT_NAMES = "kernel_modules enable_tracing container_pipe_size policy cdh_api_timeout cdh_api_timeout_ms"

#: By annotation: section and key.
KEYS: Mapping[str, tuple[str, str]] = {
    **{HYPERVISOR + name: ("hypervisor.qemu", name) for name in _HYPERVISOR_NAMES.split()},
    **{HYPERVISOR + name: ("hypervisor.qemu", key) for name, key in _HYPERVISOR_RENAMED.items()},
    **{_RUNTIME + name: ("runtime", name) for name in _RUNTIME_NAMES.split()},
    **{_AGENT + name: ("agent.kata", name) for name in _AGENT_NAMES.split()},
    f"{PREFIX}enable_vcpus_pinning": ("runtime", "enable_vcpus_pinning"),
}

#: Annotations with a list of paths that they may name: the key of `[hypervisor.qemu]` that holds it.
PATH_LISTS: Mapping[str, str] = {
    f"{HYPERVISOR}path": "valid_hypervisor_paths",
    f"{HYPERVISOR}virtio_fs_daemon": "valid_virtio_fs_daemon_paths",
    f"{HYPERVISOR}entropy_source": "valid_entropy_sources",
}

_NOT_VERIFIED = refused("the file would not be verified")
_HASHED = ("kernel", "image", "initrd", "hypervisor", "jailer", "firmware", "firmware_volume")
_NO_SWAP = ignored("the guest gets no swap")
_NOT_A_PODS = refused("which paths of the host a guest has is for the configuration file to say")

#: Annotations that stand for no key, with what becomes of their values.
LONE: Mapping[str, ForeignKey] = {
    **{f"{HYPERVISOR}{name}_hash": ForeignKey(_NOT_VERIFIED, ("",)) for name in _HASHED},
    f"{HYPERVISOR}jailer_path": ForeignKey(refused("QEMU has no jailer"), ("",)),
    f"{HYPERVISOR}default_gpus": ForeignKey(harmless("of remote hypervisors only")),
    f"{HYPERVISOR}default_gpu_model": ForeignKey(harmless("of remote hypervisors only")),
    f"{PREFIX}asset_hash_type": ForeignKey(harmless("only with a hash")),
    f"{_RUNTIME}sandbox_bind_mounts": ForeignKey(_NOT_A_PODS, ("", "[]")),
    f"{_RUNTIME}experimental_force_guest_pull": ForeignKey(refused("images are not pulled in the guest"), (False,)),
    f"{PREFIX}container.resource.swappiness": ForeignKey(_NO_SWAP),
    f"{PREFIX}container.resource.swap_in_bytes": ForeignKey(_NO_SWAP),
}
