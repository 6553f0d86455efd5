"""`[hypervisor.qemu]`: the virtual machine.

Paths have defaults of our own (what `make install` lays down); all other defaults are Kata's.
"""

# ruff: noqa: RUF009 (`key` makes a field whose default is immutable)

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.keys import ignored, key
from config.rules import AbsolutePath, Choice, Flag, Integer, ListOf, Number, OptionalPath, Pattern, Text

#: Where `make install` puts the guest.
GUEST_DIR = Path("/usr/share/kata-shim")
#: Rust's virtiofsd as distributions install it, then the C one that came with QEMU up to 7.x.
VIRTIOFSD_PLACES = (Path("/usr/libexec/virtiofsd"), Path("/usr/lib/qemu/virtiofsd"))
_VIRTIOFSD_TEXT = " and ".join(map(str, VIRTIOFSD_PLACES))

#: A guest below this does not get through its own boot; Kata's own limit of 256 is that of its larger guest.
MIN_MEMORY_MIB = 128
#: 16 TiB: what a 44 bit physical address reaches.
MAX_MEMORY_MIB = 16 * 1024 * 1024
#: Kata's limit for QEMU on x86-64.
MAX_VCPUS = 240

_NO_HOTPLUG = ignored("nothing is hot-plugged by this version")

_MEMORY_LIMIT = Integer(0, MAX_MEMORY_MIB, "MiB")
_SECTOR_SIZE = Integer(0, 65536, "bytes")
_GLOBS = ListOf(Text("a path pattern"))
_CPU_FEATURES = Text("CPU features as in 'pmu=off,+vmx'", r"([+-]?[\w.-]+(=[\w.-]+)?(,[+-]?[\w.-]+(=[\w.-]+)?)*)?")
_SECCOMP = Text(
    "QEMU's -sandbox options, as in 'on,obsolete=deny,spawn=deny', or empty",
    r"|off|on(,((obsolete|spawn|resourcecontrol)=(allow|deny)|elevateprivileges=(allow|deny|children)))*",
)


@dataclass(frozen=True, kw_only=True)
class HypervisorConfig:
    """Keys of `[hypervisor.qemu]`; `accelerator` and `agent_channel` are this runtime's own."""

    path: Path = key(Path("/usr/bin/qemu-system-x86_64"), AbsolutePath(), "The QEMU binary.")
    kernel: Path = key(GUEST_DIR / "vmlinux", AbsolutePath(), "The guest's kernel.")
    image: Path | None = key(
        GUEST_DIR / "kata-image.erofs",
        OptionalPath(),
        "The guest's root file system, attached read-only. With a stock Kata guest, set either `image` or "
        "`initrd`. When one of the two is set, the other has no default.",
    )
    initrd: Path | None = key(
        GUEST_DIR / "kata-initrd.img",
        OptionalPath(),
        "The guest's initial RAM disk. Together with `image` it is the one that loads modules and mounts the image.",
    )
    rootfs_type: str = key(
        "erofs",
        Choice(("ext4", "xfs", "erofs")),
        "File system of `image`. The default is erofs for this runtime's own image, and ext4 when `image` "
        "or `initrd` is set.",
    )
    machine_type: str = key(
        "q35",
        Text('"q35" or a version of it such as "pc-q35-7.2"', r"q35|pc-q35-\d+\.\d+"),
        "QEMU's machine.",
    )
    accelerator: str = key(
        "auto",
        Choice(("auto", "kvm", "tcg")),
        "What runs the guest's CPUs: `kvm` (fails where it can't work), `tcg` (emulation, slow, works "
        "anywhere) or `auto` (KVM if it will work, else TCG). Not a key of Kata.",
    )
    agent_channel: str = key(
        "auto",
        Choice(("auto", "vsock", "virtio-serial")),
        "How the agent is reached: `vsock` (needs /dev/vhost-vsock; the only one stock Kata guests have), "
        "`virtio-serial`, or `auto` (vsock where the host has it). Not a key of Kata.",
    )
    kernel_params: str = key(
        "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1",
        Text("kernel parameters on one line", longest=2048),
        "Parameters for the guest's kernel, separated by blanks, after this runtime's own: the last one of "
        "a name wins.",
    )
    cpu_features: str = key(
        "pmu=off",
        _CPU_FEATURES,
        "Features switched on or off in the guest's CPU model, as QEMU's -cpu has them.",
    )
    seccompsandbox: str = key(
        "", _SECCOMP, "System call filter for QEMU itself, as its -sandbox option; empty means none."
    )
    default_vcpus: float = key(
        1.0,
        Number(4096),
        "The vCPUs of a VM before any container asks for more, rounded up; 0 means 1, below 0 means all of "
        "the host's CPUs, and more than the host has means as many as it has.",
    )
    default_maxvcpus: int = key(
        0,
        Integer(0, 4096),
        f"Most vCPUs a VM may ever have; 0 means as many as the host has CPUs, at most {MAX_VCPUS}.",
    )
    default_memory: int = key(
        2048,
        Integer(MIN_MEMORY_MIB, MAX_MEMORY_MIB, "MiB"),
        f"Memory of a VM in MiB before any container asks for more; at least {MIN_MEMORY_MIB}.",
    )
    memory_slots: int = key(10, Integer(0, 255), "How many times memory can be plugged into a running VM.")
    default_maxmemory: int = key(
        0,
        _MEMORY_LIMIT,
        "Most memory a VM may ever have, in MiB; 0 means the host's RAM.",
    )
    enable_virtio_mem: bool = key(False, Flag(), "Resize the VM's memory by virtio-mem instead of DIMMs.")
    reclaim_guest_freed_memory: bool = key(
        False,
        Flag(),
        "Give memory that the guest freed back to the host (free page reporting of the balloon device).",
    )
    default_bridges: int = key(1, Integer(0, 5), "PCI bridges for devices that are plugged in later; 0 means 1.")
    shared_fs: str = key(
        "virtio-fs",
        Choice(("virtio-fs", "virtio-9p", "none"), ("virtio-fs-nydus", "inline-virtio-fs")),
        "How directories of the host reach the guest: `virtio-fs`, `virtio-9p` (no daemon, slower, and the guest's "
        "kernel must have 9p) or `none` (everything is copied when a container is made; of the volumes only "
        "ConfigMaps, Secrets and their like are kept up to date).",
    )
    virtio_fs_daemon: Path = key(
        VIRTIOFSD_PLACES[0],
        AbsolutePath(),
        f"The virtiofsd binary. Without this key: the first that exists of {_VIRTIOFSD_TEXT}.",
    )
    virtio_fs_cache: str = key(
        "auto",
        Choice(("never", "metadata", "auto", "always")),
        "What the guest may cache of shared files: `never` nothing, `metadata` names and attributes, "
        "`auto` also contents while a file is open, `always` everything for ever, so that the guest may never see "
        "what changes on the host, ConfigMaps among it.",
    )
    virtio_fs_cache_size: int = key(
        0,
        Integer(0, 1024 * 1024, "MiB"),
        "Size of the DAX window in MiB, through which the guest maps shared files; 0 means none. Above 0 QEMU and "
        "virtiofsd must know DAX, which those of the distributions don't.",
    )
    virtio_fs_queue_size: int = key(
        1024, Integer(1, 1024, power_of_two=True), "Entries of each of the shared file system's virtqueues."
    )
    virtio_fs_extra_args: tuple[str, ...] = key(
        ("--thread-pool-size=1", "--announce-submounts"),
        ListOf(Text("an argument", r".+")),
        "Further arguments of virtiofsd, which runs as root on the host: never let pods choose them.",
    )
    msize_9p: int = key(
        8192,
        Integer(4096, 1024 * 1024, "bytes"),
        "Size of a 9p message in bytes.",
    )
    disable_block_device_use: bool = key(
        True,
        Flag(),
        "Mount block-device root file systems on the host and share them; `false` plugs the device into the VM.",
    )
    block_device_driver: str = key(
        "virtio-scsi",
        Choice(("virtio-scsi", "virtio-blk"), ("nvdimm", "virtio-blk-pci", "virtio-blk-mmio", "virtio-blk-ccw")),
        "How block devices appear in the guest.",
    )
    block_device_aio: str = key(
        "io_uring",
        Choice(("threads", "native", "io_uring")),
        "How QEMU does disk input and output.",
    )
    block_device_cache_set: bool = key(False, Flag(), "Whether the two keys `block_device_cache_*` below have a say.")
    block_device_cache_direct: bool = key(False, Flag(), "Bypass the host's page cache (O_DIRECT).")
    block_device_cache_noflush: bool = key(
        False,
        Flag(),
        "Ignore the guest's flush requests: fast, and loses data when the host dies.",
    )
    block_device_logical_sector_size: int = key(
        0,
        _SECTOR_SIZE,
        "Logical sector size of block devices in bytes; 0 means QEMU's choice.",
    )
    block_device_physical_sector_size: int = key(
        0,
        _SECTOR_SIZE,
        "Physical sector size of block devices in bytes; 0 means QEMU's choice.",
    )
    disable_vhost_net: bool = key(
        False,
        Flag(),
        "Serve the VM's network interfaces from QEMU rather than from the host's kernel: slower, less "
        "kernel code exposed.",
    )
    rx_rate_limiter_max_rate: int = key(
        0,
        Integer(0, 2**63 - 1, "bit/s"),
        "Most the VM may receive, in bits per second; 0 means no limit.",
    )
    tx_rate_limiter_max_rate: int = key(
        0,
        Integer(0, 2**63 - 1, "bit/s"),
        "Most the VM may send, in bits per second; 0 means no limit.",
    )
    entropy_source: Path = key(
        Path("/dev/urandom"),
        AbsolutePath(),
        "The host's source of randomness for the guest's virtio-rng device.",
    )
    guest_hook_path: str = key(
        "",
        Text("an absolute path in the guest, or empty", r"(/.*)?"),
        "Directory in the guest with OCI hooks (`prestart`, `poststart`, `poststop`) that run with every container.",
    )
    enable_debug: bool = key(
        False, Flag(), "Let the guest's kernel and QEMU say more; their output goes to the shim's log."
    )
    enable_annotations: tuple[str, ...] = key(
        (),
        ListOf(Pattern()),
        "Which `io.katacontainers.config.hypervisor.` annotations a pod may set: regular expressions that "
        "must match the rest of the name as a whole. None by default.",
    )
    valid_hypervisor_paths: tuple[str, ...] = key(
        (),
        _GLOBS,
        "What the annotation `path` may be (glob patterns); empty refuses all.",
    )
    valid_virtio_fs_daemon_paths: tuple[str, ...] = key(
        (),
        _GLOBS,
        "What the annotation `virtio_fs_daemon` may be (glob patterns); empty refuses all.",
    )
    valid_entropy_sources: tuple[str, ...] = key(
        (),
        _GLOBS,
        "What the annotation `entropy_source` may be (glob patterns); empty refuses all.",
    )

    def boot_vcpus(self, host_cpus: int) -> int:
        """vCPUs to boot with on a host of `host_cpus`, by Kata's rules for `default_vcpus`."""
        wanted = host_cpus if self.default_vcpus < 0 else math.ceil(self.default_vcpus) or 1
        return min(wanted, host_cpus, MAX_VCPUS)

    def most_vcpus(self, host_cpus: int) -> int:
        """vCPUs the VM may grow to on a host of `host_cpus`; never less than it boots with."""
        return max(min(self.default_maxvcpus or host_cpus, host_cpus, MAX_VCPUS), self.boot_vcpus(host_cpus))


def complete(given: Mapping[str, Any], exists: Callable[[Path], bool] = Path.exists) -> dict[str, Any]:
    """The keys a configuration gave, with those defaults that depend on other keys or on the host.

    A guest of the user's own (`image` or `initrd` set) must not be mixed with half of ours.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if "image" in values or "initrd" in values:
        values = {"image": None, "initrd": None, "rootfs_type": "ext4"} | values
    if "virtio_fs_daemon" not in values:
        found = next(filter(exists, VIRTIOFSD_PLACES), VIRTIOFSD_PLACES[0])
        values["virtio_fs_daemon"] = found
    return values
