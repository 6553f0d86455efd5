"""The few system calls that Python does not wrap, by their names in the manual pages."""

from __future__ import annotations

import ctypes
import os
import signal

_CLONE_NEWNS = 0x00020000
_MS_REC = 0x4000
_MS_SLAVE = 1 << 19
_PR_SET_CHILD_SUBREAPER = 36
_PR_SCHED_CORE = 62
_PR_SCHED_CORE_CREATE = 1
_PR_SCHED_CORE_SCOPE_PROCESS_GROUP = 2
#: mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_libc = ctypes.CDLL(None, use_errno=True)


def create_sched_core() -> None:
    """Give this process' group a core scheduling cookie of its own (prctl(2), PR_SCHED_CORE_CREATE). Raises
    `OSError`.
    """
    _prctl(_PR_SCHED_CORE, _PR_SCHED_CORE_CREATE, 0, _PR_SCHED_CORE_SCOPE_PROCESS_GROUP)


def become_subreaper() -> None:
    """Make orphaned descendants our children (prctl(2), PR_SET_CHILD_SUBREAPER). Raises `OSError`."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def enter_private_mounts() -> None:
    """Move this process to a mount namespace whose mounts nobody else sees, while the host's mounts still arrive here.

    To be called before the process has threads. Raises `OSError`.
    """
    _check(_libc.unshare(_CLONE_NEWNS), "unshare mount namespace")
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None), "make mounts private")


def give_back_memory_from(size: int) -> None:
    """Have malloc(3) return what is freed to the kernel, if it is `size` bytes or more; by itself it comes to keep the
    blocks that were freed before, up to 32 MiB each. Without effect where libc is not glibc.
    """
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        getattr(_libc, "mallopt", lambda *_: 0)(parameter, size)


def end_within(seconds: float) -> None:
    """Have the kernel end this process after `seconds`, whatever then hangs (SIGALRM, whose default is that)."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _prctl(option: int, *arguments: int) -> None:
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *words), "prctl")


def _check(result: int, action: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{action}: {os.strerror(number)}")
