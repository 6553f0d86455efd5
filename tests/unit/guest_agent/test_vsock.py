"""vsock: only the host's sessions are served."""

from __future__ import annotations

import asyncio
import socket

import pytest

from guest.agent import vsock

pytestmark = pytest.mark.anyio


def test_a_virtio_socket_device_is_recognised(tmp_path):
    assert not vsock.has_device(str(tmp_path))
    for name, kind in (("virtio0", "0x0002"), ("virtio1", "0x0013")):
        (tmp_path / f"bus/virtio/devices/{name}").mkdir(parents=True)
        (tmp_path / f"bus/virtio/devices/{name}/device").write_text(f"{kind}\n")

    assert vsock.has_device(str(tmp_path))


class Listener(socket.socket):
    """A UNIX listener whose peers claim a CID."""

    cid = 0

    def accept(self):
        connection, _ = super().accept()
        connection.setblocking(False)
        return connection, (self.cid, 1)


@pytest.mark.parametrize(("cid", "served"), [(vsock.HOST_CID, True), (vsock.LOCAL_CID, False), (77, False)])
async def test_sessions_are_the_hosts_alone(tmp_path, cid, served):
    made = asyncio.Queue()

    class Session(asyncio.Protocol):
        def connection_made(self, transport):
            made.put_nowait(transport)

    with Listener(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as host:
        listener.cid = cid
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.setblocking(False)
        host.connect(str(tmp_path / "s"))
        host.setblocking(False)
        task = asyncio.create_task(vsock.serve(listener, Session))
        if served:
            (await asyncio.wait_for(made.get(), 10)).close()
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(host, 1), 10) == b""
        assert made.empty()
        task.cancel()
