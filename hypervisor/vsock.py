"""Guest addresses (CIDs) for vsock: claimed in the host kernel before QEMU runs, so that two VMs never share one.

The kernel has no call that hands out a free CID: one tries random ones (linux/vhost.h, VHOST_VSOCK_SET_GUEST_CID)
until one is not in use. The claim lasts as long as the descriptor, which QEMU inherits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from hypervisor.errors import HypervisorError

VHOST_VSOCK = Path("/dev/vhost-vsock")
#: _IOW(VHOST_VIRTIO, 0x60, __u64)
VHOST_VSOCK_SET_GUEST_CID = 0x4008AF60
#: 0 to 2 are the hypervisor's, the loopback's and the host's; above 2**31 old tools see negative numbers.
FIRST_CID, LAST_CID = 3, 2**31 - 1
ATTEMPTS = 64


def available(device: Path = VHOST_VSOCK) -> bool:
    """Whether this host can give guests a vsock."""
    return os.access(device, os.R_OK | os.W_OK)


def random_cids() -> Iterator[int]:
    """Guest addresses to try, without end."""
    while True:
        yield random.randint(FIRST_CID, LAST_CID)


def claim_cid(fd: int, cids: Iterator[int], set_cid: Callable[[int, int], None]) -> int:
    """The first of at most `ATTEMPTS` addresses that `set_cid` can give to `fd`; HypervisorError if there is none."""
    for _, cid in zip(range(ATTEMPTS), cids, strict=False):
        try:
            set_cid(fd, cid)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise HypervisorError(f"can't set the guest's vsock address: {error.strerror or error}") from error
        else:
            return cid
    raise HypervisorError(f"no free vsock address in {ATTEMPTS} attempts")


def open_vhost_vsock(device: Path = VHOST_VSOCK) -> tuple[int, int]:
    """A vhost-vsock descriptor and the guest address claimed on it; the caller closes it.

    Raises HypervisorError if the host has no vhost-vsock.
    """
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HypervisorError(
            f"can't open {device}: {error.strerror or error}; load vhost_vsock or use agent_channel virtio-serial"
        ) from error
    try:
        return fd, claim_cid(fd, random_cids(), _set_guest_cid)
    except BaseException:
        os.close(fd)
        raise


def _set_guest_cid(fd: int, cid: int) -> None:
    fcntl.ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, struct.pack("=Q", cid))
