"""What the first process does around serving: the kernel's file systems, the loopback link, the machine's end.

The order and the mounts are those that Kata's agent has as init ("init_daemon"): proc, sys, dev, run, cgroup v2.
What an initrd mounted already is left as it is.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable

from guest.agent import kernel
from guest.agent.log import log

_HARDENED = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC

#: Source, target, type, flags, data, in the order in which they depend on each other.
MOUNTS: tuple[tuple[str, str, str, int, str], ...] = (
    ("proc", "/proc", "proc", _HARDENED, ""),
    ("sysfs", "/sys", "sysfs", _HARDENED, ""),
    ("devtmpfs", "/dev", "devtmpfs", kernel.MS_NOSUID, "mode=0755"),
    ("devpts", "/dev/pts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"),
    ("shm", "/dev/shm", "tmpfs", _HARDENED, "mode=1777"),
    ("mqueue", "/dev/mqueue", "mqueue", _HARDENED, ""),
    ("run", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755"),
    ("tmp", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2", _HARDENED, "nsdelegate"),
)
#: Without these no container can run.
REQUIRED = frozenset({"/proc", "/sys", "/dev", "/run", "/sys/fs/cgroup"})

#: What the kernel calls a machine that nobody has named, and what it is called instead, as by systemd.
NAMELESS = "(none)"
DEFAULT_HOSTNAME = "localhost"

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def mount_all() -> None:
    """Mount what is missing of `MOUNTS`; raises `OSError` if a required one can't be."""
    mounted: set[str] = set()
    for source, target, fstype, flags, data in MOUNTS:
        if target in mounted or target in (mounted := mounted | _mounted()):
            continue
        try:
            if target != "/proc":
                os.makedirs(target, exist_ok=True)
            kernel.mount(source, target, fstype, flags, data)
        except OSError as error:
            if target in REQUIRED:
                raise
            log.warning("%s", error)


def mount_points(mountinfo: Iterable[str]) -> set[str]:
    """The mount points in the lines of /proc/self/mountinfo (proc(5): the fifth field)."""
    return {fields[4] for line in mountinfo if len(fields := line.split()) > 4}


def _mounted() -> set[str]:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return mount_points(file)
    except OSError:
        return set()


def name_machine() -> None:
    """Give a nameless guest a name that is one: containers whose spec has none are seen to have it."""
    if os.uname().nodename == NAMELESS:
        socket.sethostname(DEFAULT_HOSTNAME)


def bring_up_loopback() -> None:
    """Set `lo` up, which gives it its addresses."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def power_off(has_acpi: bool | None = None) -> None:
    """End the machine: power off by ACPI, or restart where there is none (with `-no-reboot` a VMM then exits)."""
    os.sync()
    if has_acpi is None:
        has_acpi = os.path.isdir("/sys/firmware/acpi")
    if has_acpi:
        kernel.reboot(kernel.RB_POWER_OFF)
    kernel.reboot(kernel.RB_AUTOBOOT)
