"""The way in over vsock: a listener on the agent's port, for the host alone.

A container shares the guest's kernel, so it can reach the port by the loopback address; it is turned away, unless
`agent.devmode` asks for it on the kernel command line.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from guest.agent import modules
from guest.agent.errors import RpcError
from guest.agent.log import log
from guest.agent.reaper import Reaper

#: VMADDR_CID_HOST (vsock(7)).
HOST_CID = 2
LOCAL_CID = 1
TRANSPORT_MODULE = "vmw_vsock_virtio_transport"
LOOPBACK_MODULE = "vsock_loopback"
#: The virtio device id of a socket device (virtio specification, "Socket Device").
_VIRTIO_SOCKET = "0x0013"
_BACKLOG = 16
#: Seconds after a failed accept, such as one for want of descriptors.
_RETRY_SECONDS = 0.5


async def load_transport(reaper: Reaper, sys: str = "/sys", loopback: bool = False) -> None:
    """Load the driver if there is a device and no driver for it yet; `loopback`: the one that needs no device, too."""
    for name, is_wanted in ((TRANSPORT_MODULE, has_device(sys)), (LOOPBACK_MODULE, loopback)):
        if is_wanted and not os.path.isdir(f"{sys}/module/{name}"):
            try:
                await modules.load(name, [], reaper)
            except RpcError as error:
                log.warning("vsock: %s", error)


def has_device(sys: str) -> bool:
    """Whether the machine has a virtio socket device."""
    directory = f"{sys}/bus/virtio/devices"
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    return any(_read(f"{directory}/{name}/device") == _VIRTIO_SOCKET for name in names)


def listen(port: int) -> socket.socket | None:
    """A listening socket on `port` for any CID; None where the guest has no vsock."""
    try:
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        log.info("no vsock: %s", error.strerror)
        return None
    try:
        sock.bind((socket.VMADDR_CID_ANY, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        log.warning("vsock port %d: %s", port, error.strerror)
        return None
    return sock


async def serve(
    sock: socket.socket, make_session: Callable[[], asyncio.Protocol], allowed: frozenset[int] = frozenset({HOST_CID})
) -> None:
    """Accept sessions from the CIDs in `allowed` for ever."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, peer = await loop.sock_accept(sock)
        except OSError as error:
            log.warning("vsock: %s", error.strerror or error)
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        if peer[0] not in allowed:
            log.warning("refused a session from vsock CID %s", peer[0])
            connection.close()
            continue
        await loop.connect_accepted_socket(make_session, connection)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(64).strip()
    except OSError:
        return ""
