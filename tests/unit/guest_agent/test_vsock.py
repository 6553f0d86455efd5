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


async def test_an_accept_that_fails_does_not_end_the_serving(tmp_path, monkeypatch):
    monkeypatch.setattr(vsock, "_RETRY_SECONDS", 0)
    failures = [OSError(24, "Too many open files"), ConnectionAbortedError(103, "gone")]
    made = asyncio.Queue()

    class Flaky(Listener):
        def accept(self):
            if failures:
                raise failures.pop()
            return super().accept()

    class Session(asyncio.Protocol):
        def connection_made(self, transport):
            made.put_nowait(transport)

    with Flaky(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as host:
        listener.cid = vsock.HOST_CID
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.setblocking(False)
        host.connect(str(tmp_path / "s"))
        task = asyncio.create_task(vsock.serve(listener, Session))
        (await asyncio.wait_for(made.get(), 10)).close()
        task.cancel()


@pytest.mark.parametrize(
    ("device", "loopback", "loaded"),
    [
        (False, False, []),
        (True, False, [vsock.TRANSPORT_MODULE]),
        (False, True, [vsock.LOOPBACK_MODULE]),
    ],
)
async def test_a_driver_is_loaded_for_a_device_and_the_loopback_on_demand(
    tmp_path, monkeypatch, reaper, device, loopback, loaded
):
    asked = []

    async def load(name, parameters, reaper):
        asked.append(name)

    monkeypatch.setattr(vsock.modules, "load", load)
    monkeypatch.setattr(vsock, "has_device", lambda sys: device)

    await vsock.load_transport(reaper, str(tmp_path), loopback)
    assert asked == loaded

    for name in loaded:
        (tmp_path / "module" / name).mkdir(parents=True)
    await vsock.load_transport(reaper, str(tmp_path), loopback)
    assert asked == loaded
