"""Entering a network namespace: for good, or for the life of one thread. Standard library only."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


def enter(namespace: int) -> None:
    """Move the calling thread into the network namespace behind a descriptor (setns(2)); raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def within(namespace: int, work: Callable[[], T]) -> T:
    """The result of `work`, done in the namespace by a thread that ends with it; it must not take long.

    The process itself never leaves its own namespace. What `work` raises is raised; `OSError` where no further thread
    may be started.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            enter(namespace)
            results.append(work())
        except Exception as error:  # noqa: BLE001 - handed to the caller as it is
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    try:
        thread.start()
    except RuntimeError as error:
        # A pod's limit of processes holds for its daemon too.
        raise OSError(errno.EAGAIN, str(error)) from error
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
