"""Connections from inside a pod's network namespace, as containerd makes them for a port-forward."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import threading
from pathlib import Path

from protos.gen.runtime import v1 as api
from sandbox.network.entering import within
from tests.harness.cri import Cri, Pod

#: Seconds for what is waited for under emulation, beside other tests.
PATIENCE = 120.0


async def namespace_of(cri: Cri, pod: Pod) -> Path:
    """Path of the pod's network namespace, as containerd tells it."""
    request = api.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True)
    info = json.loads((await cri.runtime.pod_sandbox_status(request, timeout=60)).info["info"])
    spaces = info["runtimeSpec"]["linux"]["namespaces"]
    return Path(next(space["path"] for space in spaces if space["type"] == "network"))


def dial(namespace: Path, port: int, host: str = "localhost") -> socket.socket:
    """A connection to `host` from within the namespace."""
    fd = os.open(namespace, os.O_RDONLY)
    try:
        stream = within(fd, lambda: socket.create_connection((host, port), timeout=PATIENCE))
    finally:
        os.close(fd)
    return stream


def echoed(stream: socket.socket, data: bytes) -> str:
    """The SHA-256 of what comes back to the end of both directions, while `data` and its end are sent."""

    def send() -> None:
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    digest = hashlib.sha256()
    while piece := stream.recv(1 << 18):
        digest.update(piece)
    sender.join()
    return digest.hexdigest()


def reset(stream: socket.socket) -> None:
    """Close it so that the other side sees a reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()
