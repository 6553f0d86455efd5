"""Descriptors for QEMU: queues of a tap or macvtap, and of vhost-net. See the kernel's `networking/tuntap.rst`."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from pathlib import Path

_TUN = "/dev/net/tun"
_VHOST = "/dev/vhost-net"
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_MULTI_QUEUE, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x100, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")


def open_tap(name: str, queues: int) -> list[int]:
    """Make tap `name` in this namespace and open its queues. It goes with the last of them. Raises `OSError`."""
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    request = _IFREQ.pack(name.encode(), flags)
    fds: list[int] = []
    try:
        for _ in range(queues):
            fds.append(_open(_TUN, "load the module tun"))
            fcntl.ioctl(fds[-1], _TUNSETIFF, request)
    except OSError as error:
        _close(fds)
        if error.filename:
            raise
        raise OSError(error.errno, error.strerror, name) from error
    return fds


def open_macvtap(name: str, queues: int) -> list[int]:
    """Open the queues of macvtap `name` of this namespace.

    Its device node is found in a fresh sysfs, which shows this namespace, and made in a tmpfs of our own: this process
    must be in a private mount namespace. Raises `OSError`.
    """
    numbers = next(Path(f"/sys/class/net/{name}").glob("tap*/dev"), None)
    if numbers is None:
        raise FileNotFoundError(2, "the macvtap has no device", name)
    major, minor = map(int, numbers.read_text().split(":"))
    node = Path(f"/tmp/{name}")
    os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(major, minor))
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    fds: list[int] = []
    try:
        for _ in range(queues):
            fds.append(_open(str(node), "it has just been made"))
            fcntl.ioctl(fds[-1], _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
    except OSError:
        _close(fds)
        raise
    finally:
        node.unlink()
    return fds


def open_vhost(queues: int) -> list[int]:
    """vhost-net for so many queues; empty where the host has none. Raises `OSError`."""
    fds: list[int] = []
    try:
        while os.path.exists(_VHOST) and len(fds) < queues:
            fds.append(_open(_VHOST, "load the module vhost_net"))
    except OSError:
        _close(fds)
        raise
    return fds


def _open(path: str, advice: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} ({advice})", path) from error


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
