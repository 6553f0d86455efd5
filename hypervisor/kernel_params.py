"""The guest kernel's command line: what the machine needs, then what the pod asks for.

The kernel takes the last of two equal parameters, so the pod's win. Every default is here for time or memory,
measured on q35 under TCG with Debian's cloud kernel (unpacked: 1.5 s to init with them, 2.1 s without):
"""

from __future__ import annotations

from hypervisor.arguments import plain
from hypervisor.errors import HypervisorError
from hypervisor.vm import VmSpec

#: x86's COMMAND_LINE_SIZE, with its terminating NUL. What is longer the kernel cuts off silently.
COMMAND_LINE_SIZE = 2048

_DEFAULTS = (
    # The first serial port tells of early boot and of panics.
    "console=ttyS0",
    # A panicked guest restarts at once, and with -no-reboot that ends QEMU: death is noticed within milliseconds.
    "panic=-1",
    # 0.3 s: the self-tests of the crypto API.
    "cryptomgr.notests",
    # 0.1 s each: watching the TSC for faults of real hardware, patching locks for a single CPU.
    "tsc=reliable",
    "noreplace-smp",
    # Checks whether an interrupt controller of the last century delivers the timer; an emulated one does.
    "no_timer_check",
    # Registration of the many things that wait for a grace period at boot.
    "rcupdate.rcu_expedited=1",
    # 0.15 s and 64 MiB of touched memory: bounce buffers for devices without 64-bit DMA, which room for memory
    # hot-plug above 4 GiB would allocate. virtio has no such devices.
    "swiotlb=noforce",
    # Interface names as the network plan gives them.
    "net.ifnames=0",
)


def kernel_command_line(spec: VmSpec) -> str:
    """The text of `-append`. Raises HypervisorError for control characters, or one that the kernel would cut."""
    verbosity = ("loglevel=7",) if spec.debug else ("quiet",)
    cpus = f"nr_cpus={max(spec.vcpus, spec.max_vcpus)}"
    params = (*_DEFAULTS, *verbosity, cpus, *_memory(spec), *_root(spec), *spec.kernel_params)
    line = plain(" ".join(params), "kernel parameters")
    if len(line.encode()) >= COMMAND_LINE_SIZE:
        raise HypervisorError(
            f"kernel parameters of {len(line.encode())} bytes: the kernel takes {COMMAND_LINE_SIZE - 1}"
        )
    return line


def _memory(spec: VmSpec) -> tuple[str, ...]:
    """Memory that is plugged in is used at once, and most of it only for data that can be moved: so it can go again."""
    if spec.max_memory_mib <= spec.memory_mib:
        return ()
    return ("memhp_default_state=online", "memory_hotplug.online_policy=auto-movable")


def _root(spec: VmSpec) -> tuple[str, ...]:
    """Where a stock Kata image has its root file system; with an initrd, that finds the image itself."""
    if spec.image is None or spec.initrd is not None:
        return ()
    flags = "" if spec.image_type == "erofs" else "rootflags=data=ordered,errors=remount-ro "
    if spec.image_type == "xfs":
        flags = ""
    return tuple(f"root=/dev/vda1 {flags}ro rootfstype={spec.image_type}".split())
