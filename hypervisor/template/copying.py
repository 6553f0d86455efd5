"""A copy of a template's memory: only what the guest has ever written, beside all else that a start has to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial

from hypervisor.errors import HypervisorError
from hypervisor.threads import aside

#: Bytes that one system call copies: some 3 ms.
STEP = 8 << 20


async def copy_sparse(source: int, target: int) -> int:
    """Make the empty file `target` equal to `source`, holes included; returns the bytes copied.

    A thread does it: the kernel copies without the interpreter's lock, and another CPU can start QEMU meanwhile. It
    takes some 40 ms, after which a cancellation is heard. Raises `HypervisorError`, for want of memory for instance.
    """
    return await aside(partial(_copy, source, target))


def _copy(source: int, target: int) -> int:
    copied = 0
    try:
        os.ftruncate(target, os.fstat(source).st_size)
        for begin, end in data_ranges(source):
            os.lseek(target, begin, os.SEEK_SET)
            while begin < end:
                moved = os.sendfile(target, source, begin, min(end - begin, STEP))
                if not moved:
                    raise HypervisorError("the template's memory has become shorter")
                begin += moved
                copied += moved
    except OSError as error:
        raise HypervisorError(f"the template's memory can't be copied: {error.strerror}") from error
    return copied


def data_ranges(fd: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each range of a file that is not a hole."""
    end = 0
    while True:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, end
