"""System calls that Python's standard library doesn't have: mounts, namespaces, reaping, power.

Thin: each function is one call of libc that raises `OSError` with the call's name. See mount(2), umount2(2),
unshare(2), setns(2), prctl(2), swapon(2), reboot(2).
"""

from __future__ import annotations

import ctypes
import os

MS_RDONLY = 1 << 0
MS_NOSUID = 1 << 1
MS_NODEV = 1 << 2
MS_NOEXEC = 1 << 3
MS_SYNCHRONOUS = 1 << 4
MS_REMOUNT = 1 << 5
MS_DIRSYNC = 1 << 7
MS_NOSYMFOLLOW = 1 << 8
MS_NOATIME = 1 << 10
MS_NODIRATIME = 1 << 11
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000

PR_SET_CHILD_SUBREAPER = 36

#: tee(2)
_SPLICE_F_NONBLOCK = 2
#: mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

RB_AUTOBOOT = 0x01234567
RB_POWER_OFF = 0x4321FEDC

_libc = ctypes.CDLL(None, use_errno=True)
_libc.tee.restype = ctypes.c_ssize_t


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """Mount `source` on `target`."""
    arguments = (source.encode(), target.encode(), fstype.encode(), ctypes.c_ulong(flags), data.encode())
    _check(_libc.mount(*arguments), f"mount {fstype or 'bind'} on {target}")


def unmount(target: str, flags: int = UMOUNT_NOFOLLOW) -> None:
    """Unmount what is on top of `target`, without following a symbolic link."""
    _check(_libc.umount2(target.encode(), flags), f"unmount {target}")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace that `fd` is an open file of; `kind` is its CLONE_NEW flag."""
    _check(_libc.setns(fd, kind), "setns")


def set_subreaper(enabled: bool = True) -> None:
    """Let orphans among the descendants become children of this process, which has to reap them."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(enabled), 0, 0, 0), "prctl")


def swap_on(path: str) -> None:
    """Swap to what is at `path`, which mkswap has prepared."""
    _check(_libc.swapon(path.encode(), 0), f"swapon {path}")


def reboot(command: int) -> None:
    """Power off or restart the machine; does not return where it works."""
    _check(_libc.reboot(ctypes.c_int(command - (1 << 32) if command >> 31 else command)), "reboot")


def tee(source: int, target: int, size: int) -> int:
    """Show in the pipe `target` what is in the pipe `source`, up to `size` bytes; how many."""
    copied: int = _libc.tee(source, target, ctypes.c_size_t(size), _SPLICE_F_NONBLOCK)
    _check(copied, "tee")
    return copied


def keep_freed_memory(size: int) -> None:
    """Let malloc(3) keep up to `size` freed bytes for later: getting pages anew costs more than copying them.

    Without effect where libc is not glibc.
    """
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        _libc.mallopt(parameter, size)


def _check(result: int, what: str) -> None:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
