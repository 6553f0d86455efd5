"""Endpoints made in the namespace that this process is in.

`tcfilter`: a tap beside the link, and what comes in at either goes out at the other, so that nothing of the host's
stack sees a frame in between. `macvtap`: the link's frames all go to a macvtap in passthru mode, which takes on the
link's hardware address. In both ways the link keeps its addresses, so nothing has to be put back at the end.
"""

from __future__ import annotations

import ctypes
import os
import socket
from typing import Any

from sandbox.network import undo
from sandbox.network.kernel.taps import open_macvtap, open_tap, open_vhost
from sandbox.network.plan import Endpoint

_INGRESS = 0xFFFF0000
_ALL_PROTOCOLS = 0x0003
_CLASS = 0x10020
_NO_ADDRESS = 1
#: A bucket must hold one segment of 64 KiB, and enough for the timer's tick, in bytes.
_LEAST_BURST = 128 << 10
_TICK = 0.01
_LATENCY = "50ms"
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_CLONE_NEWNS = 0x20000


class Attached:
    """An endpoint that is there: its descriptors, and its device's index in the namespace."""

    def __init__(self, endpoint: Endpoint, index: int, taps: list[int], vhosts: list[int]) -> None:
        self.endpoint = endpoint
        self.index = index
        self.taps = taps
        self.vhosts = vhosts

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (*self.taps, *self.vhosts):
            os.close(fd)


def attach(netlink: Any, endpoint: Endpoint) -> Attached:
    """Make one; raises `OSError` or pyroute2's `NetlinkError`, and nothing is left then."""
    try:
        taps, index = (_macvtap if endpoint.model == "macvtap" else _tap)(netlink, endpoint)
    except BaseException:
        detach([endpoint])
        raise
    try:
        vhosts = open_vhost(endpoint.queues) if endpoint.vhost else []
    except BaseException:
        for fd in taps:
            os.close(fd)
        detach([endpoint])
        raise
    return Attached(endpoint, index, taps, vhosts)


def detach(endpoints: list[Endpoint]) -> None:
    """Take back what stays when the descriptors are closed; what is gone already is no error."""
    try:
        undo.remove([endpoint.undoing for endpoint in endpoints])
    except OSError:
        # The daemon tries again at its end, and so does `delete`.
        return


def _tap(netlink: Any, endpoint: Endpoint) -> tuple[list[int], int]:
    taps = open_tap(endpoint.device, endpoint.queues)
    try:
        index = socket.if_nametoindex(endpoint.device)
        # The tap is a cable: an address of its own would have the host's stack talk to the guest.
        no_address = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _NO_ADDRESS)]})]}
        if os.path.exists("/proc/sys/net/ipv6"):
            netlink.link("set", index=index, IFLA_AF_SPEC=no_address)
        netlink.link("set", index=index, mtu=endpoint.mtu, state="up")
        for place in (endpoint.link, index):
            netlink.tc("add", "ingress", place, _INGRESS)
        _redirect(netlink, endpoint.link, index)
        _redirect(netlink, index, endpoint.link)
        for place, rate in ((index, endpoint.rx_rate), (endpoint.link, endpoint.tx_rate)):
            if rate:
                _limit(netlink, place, rate)
    except BaseException:
        for fd in taps:
            os.close(fd)
        raise
    return taps, index


def _redirect(netlink: Any, source: int, target: int) -> None:
    netlink.tc(
        "add-filter",
        "u32",
        source,
        parent=_INGRESS,
        prio=1,
        protocol=_ALL_PROTOCOLS,
        target=_CLASS,
        keys=["0x0/0x0+0"],
        action={"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": target},
    )


def _limit(netlink: Any, index: int, rate: int) -> None:
    """Shape what goes out there to `rate` bits per second."""
    octets = max(1, rate // 8)
    netlink.tc("add", "tbf", index, rate=octets, burst=max(_LEAST_BURST, int(octets * _TICK)), latency=_LATENCY)


def _macvtap(netlink: Any, endpoint: Endpoint) -> tuple[list[int], int]:
    _own_view()
    netlink.link(
        "add",
        ifname=endpoint.device,
        kind="macvtap",
        link=endpoint.link,
        macvtap_mode="passthru",
        num_tx_queues=endpoint.queues,
        num_rx_queues=endpoint.queues,
    )
    index = socket.if_nametoindex(endpoint.device)
    netlink.link("set", index=index, mtu=endpoint.mtu, state="up")
    return open_macvtap(endpoint.device, endpoint.queues), index


def _own_view() -> None:
    """Give this process mounts of its own: a sysfs that shows this network namespace, and room for a device node."""
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.unshare(_CLONE_NEWNS), "unshare")
    _checked(libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "make mounts private")
    for kind, place in ((b"sysfs", b"/sys"), (b"tmpfs", b"/tmp")):
        _checked(libc.mount(kind, place, kind, ctypes.c_ulong(0), None), f"mount {kind.decode()}")


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
