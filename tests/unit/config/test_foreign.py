"""Kata's own configurations: every key is known, its defaults load in silence, the rest is judged."""

from __future__ import annotations

import pytest

from config import load
from config.foreign import FOREIGN
from config.keys import Verdict, keys_of
from config.loader import TYPED

#: A configuration as Kata's Go runtime ships it for QEMU (paths as packaged, every key at its default).
STOCK = """
[hypervisor.qemu]
path = "/opt/kata/bin/qemu-system-x86_64"
kernel = "/opt/kata/share/kata-containers/vmlinux.container"
image = "/opt/kata/share/kata-containers/kata-containers.img"
machine_type = "q35"
rootfs_type = "ext4"
rootless = false
confidential_guest = false
sev_snp_guest = false
enable_annotations = []
valid_hypervisor_paths = []
kernel_params = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
kernel_verity_params = ""
firmware = ""
firmware_volume = ""
machine_accelerators = ""
seccompsandbox = ""
cpu_features = "pmu=off"
default_vcpus = 1
default_maxvcpus = 0
default_bridges = 1
default_memory = 2048
memory_slots = 10
default_maxmemory = 0
memory_offset = 0
enable_virtio_mem = false
disable_block_device_use = true
shared_fs = "virtio-fs"
virtio_fs_daemon = "/opt/kata/libexec/virtiofsd"
valid_virtio_fs_daemon_paths = []
virtio_fs_cache_size = 0
virtio_fs_queue_size = 1024
virtio_fs_extra_args = ["--thread-pool-size=1", "--announce-submounts"]
virtio_fs_cache = "auto"
block_device_driver = "virtio-scsi"
block_device_aio = "io_uring"
block_device_cache_set = false
block_device_cache_direct = false
block_device_cache_noflush = false
block_device_logical_sector_size = 0
block_device_physical_sector_size = 0
enable_iothreads = false
indep_iothreads = 0
enable_mem_prealloc = false
reclaim_guest_freed_memory = false
enable_hugepages = false
enable_vhost_user_store = false
vhost_user_store_path = "/var/run/kata-containers/vhost-user"
valid_vhost_user_store_paths = ["/var/run/kata-containers/vhost-user"]
vhost_user_reconnect_timeout_sec = 0
enable_iommu = false
enable_iommu_platform = false
enable_numa = false
numa_mapping = []
file_mem_backend = ""
valid_file_mem_backends = [""]
pflashes = []
enable_debug = false
extra_monitor_socket = ""
disable_nesting_checks = false
msize_9p = 8192
disable_image_nvdimm = false
hot_plug_vfio = "no-port"
cold_plug_vfio = "no-port"
pcie_root_port = 0
pcie_switch_port = 0
disable_vhost_net = false
entropy_source = "/dev/urandom"
valid_entropy_sources = []
guest_hook_path = ""
rx_rate_limiter_max_rate = 0
tx_rate_limiter_max_rate = 0
guest_memory_dump_path = ""
guest_memory_dump_paging = false
enable_guest_swap = false
use_legacy_serial = false
disable_selinux = false
disable_guest_selinux = true
[factory]
enable_template = false
template_path = "/run/vc/vm/template"
vm_cache_number = 0
vm_cache_endpoint = "/var/run/kata-containers/cache.sock"
[agent.kata]
enable_debug = false
enable_tracing = false
kernel_modules = []
debug_console_enabled = false
dial_timeout = 45
cdh_api_timeout = 50
launch_process_timeout = 6
[agent.kata.mem_agent]
mem_agent_enable = false
[runtime]
enable_debug = false
internetworking_model = "tcfilter"
disable_guest_seccomp = true
enable_vcpus_pinning = false
guest_selinux_label = ""
enable_tracing = false
jaeger_endpoint = ""
jaeger_user = ""
jaeger_password = ""
disable_new_netns = false
sandbox_cgroup_only = false
static_sandbox_resource_mgmt = false
sandbox_bind_mounts = []
vfio_mode = "guest-kernel"
disable_guest_empty_dir = true
emptydir_mode = "shared-fs"
experimental = []
enable_pprof = false
create_container_timeout = 60
dan_conf = "/run/kata-containers/dans"
kubelet_root_dir = "/var/lib/kubelet"
pod_resource_api_sock = ""
"""

#: Keys that only runtime-rs has, or that stand in documents rather than in the shipped file.
OTHERS = {
    "hypervisor.qemu": """vm_rootfs_driver overhead_vcpus overhead_memory seccomp_sandbox queue_size num_queues
        network_queues ctlpath valid_ctlpaths prefetch_list_path hugepage_type virtio_fs_is_dax guest_swap_path
        guest_swap_size_percent guest_swap_create_threshold_secs rootless_user boot_to_be_template boot_from_template
        memory_path device_state_path log_level initdata selinux_label tdx_quote_generation_service_socket_port
        guest_extension_images hotplug_vfio_on_root_bus virtio_fs_inode_file_handles""",
    "agent.kata": """container_pipe_size policy dial_timeout_ms reconnect_timeout_ms create_container_timeout
        cdh_api_timeout_ms server_port log_port debug_console_port passfd_listener_port request_timeout_ms
        health_check_request_timeout_ms""",
    "agent.kata.mem_agent": """memcg_disable memcg_swap memcg_swappiness_max memcg_period_secs
        memcg_period_psi_percent_limit memcg_eviction_psi_percent_limit memcg_eviction_run_aging_count_min
        compact_disable compact_period_secs compact_period_psi_percent_limit compact_psi_percent_limit
        compact_sec_max compact_order compact_threshold compact_force_times""",
    "runtime": "name hypervisor_name agent_name use_passfd_io keep_abnormal shared_mounts log_level",
}


def test_katas_shipped_configuration_loads_without_a_word(write):
    loaded = load(write(STOCK))

    assert loaded.ignored == ()
    assert loaded.hypervisor.initrd is None


@pytest.mark.parametrize("section", OTHERS)
def test_every_other_key_of_kata_is_known(section):
    known = set(FOREIGN[section]) | set(keys_of(TYPED[section]) if section in TYPED else ())

    assert set(OTHERS[section].split()) <= known


def test_no_key_is_in_two_tables():
    for section, keys in TYPED.items():
        assert not set(keys_of(keys)) & set(FOREIGN[section]), section


def test_every_foreign_key_has_a_reason():
    for keys in FOREIGN.values():
        for name, key in keys.items():
            assert key.stance.reason, name


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("hypervisor.qemu", "confidential_guest"),
        ("hypervisor.qemu", "sev_snp_guest"),
        ("hypervisor.qemu", "rootless"),
        ("hypervisor.qemu", "kernel_verity_params"),
        ("hypervisor.qemu", "firmware"),
        ("hypervisor.qemu", "disable_guest_selinux"),
        ("hypervisor.qemu", "enable_iommu"),
        ("hypervisor.qemu", "hot_plug_vfio"),
        ("hypervisor.qemu", "initdata"),
        ("agent.kata", "policy"),
        ("runtime", "guest_selinux_label"),
        ("runtime", "disable_new_netns"),
        ("runtime", "emptydir_mode"),
    ],
)
def test_a_promise_of_security_or_meaning_is_never_passed_over(section, name):
    assert FOREIGN[section][name].stance.verdict is Verdict.REFUSED


@pytest.mark.parametrize("name", ["disable_selinux", "disable_image_nvdimm"])
def test_what_this_runtime_does_anyway_is_accepted_in_silence(write, name):
    assert load(write(f"[hypervisor.qemu]\n{name} = true\n")).ignored == ()


@pytest.mark.parametrize(("value", "is_default"), [(False, True), (0, False), (True, False), ("", False)])
def test_a_default_is_compared_with_its_type(value, is_default):
    assert FOREIGN["hypervisor.qemu"]["enable_iommu"].is_default(value) is is_default


def test_a_list_is_compared_by_its_items():
    assert FOREIGN["hypervisor.qemu"]["pflashes"].is_default([])
    assert not FOREIGN["hypervisor.qemu"]["pflashes"].is_default(["/x"])
