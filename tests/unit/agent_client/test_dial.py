"""Reaching an agent: every kind of address, and every way in which it fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent_client import dial as dial_module
from agent_client.address import HybridVsock, Serial, Unix, Vsock
from agent_client.dial import DialError, dial
from tests.fakes.agent import PATIENCE, FakeAgent

pytestmark = pytest.mark.anyio

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def listening(path, peer: Peer) -> AsyncIterator[None]:
    """A UNIX socket behind which `peer` plays the other side."""
    async with await asyncio.start_unix_server(peer, path=path):
        yield


async def fault(address, timeout: float = PATIENCE) -> DialError:
    with pytest.raises(DialError) as caught:
        await dial(address, timeout)
    return caught.value


async def test_a_plain_socket_is_connected_and_left_untouched(tmp_path):
    async with FakeAgent(tmp_path / "a"):
        with await dial(Unix(str(tmp_path / "a")), PATIENCE) as sock:
            assert sock.getpeername() == str(tmp_path / "a")
            assert sock.getblocking() is False


@pytest.mark.parametrize("noise", [b"", b"\0stale reply of an earlier session" * 5000])
async def test_a_serial_port_is_ready_after_its_own_ok_whatever_comes_before(tmp_path, noise):
    async with FakeAgent(tmp_path / "a", kind="serial", noise=noise):
        sock = await dial(Serial(str(tmp_path / "a")), PATIENCE)
        with sock, pytest.raises(BlockingIOError):
            sock.recv(1)


async def test_hybrid_vsock_asks_for_its_port(tmp_path):
    async with FakeAgent(tmp_path / "a", kind="hvsock") as agent:
        with await dial(HybridVsock(str(tmp_path / "a"), 1025), PATIENCE):
            assert agent.ports == [1025]


async def test_a_missing_socket_fails_at_once_with_its_name(tmp_path):
    error = await fault(Serial(str(tmp_path / "a")))

    assert str(error) == f"serial://{tmp_path}/a: No such file or directory"
    assert not error.timed_out


async def test_a_silent_serial_port_runs_into_the_deadline_and_says_so(tmp_path):
    async with FakeAgent(tmp_path / "a", kind="serial", mute=True):
        error = await fault(Serial(str(tmp_path / "a")), 0.05)

    assert error.timed_out
    assert str(error) == (
        f"serial://{tmp_path}/a: no answer in 0.05 s: nothing came from the guest's port, so no agent has opened it"
    )


async def test_a_serial_port_with_noise_only_tells_how_much_of_it_came(tmp_path):
    async with FakeAgent(tmp_path / "a", kind="serial", mute=True, noise=b"login: "):
        error = await fault(Serial(str(tmp_path / "a")), 0.1)

    assert "only 7 bytes of something else" in str(error)


async def test_qemu_that_dies_during_the_handshake_ends_it_at_once(tmp_path):
    async with FakeAgent(tmp_path / "a", kind="serial") as agent:
        agent.refuse()
        error = await fault(Serial(str(tmp_path / "a")))

    assert not error.timed_out
    assert "closed during the handshake" in str(error) or "reset" in str(error) or "Broken pipe" in str(error)


async def test_a_flooding_guest_ends_the_handshake(tmp_path, monkeypatch):
    monkeypatch.setattr("agent_client.handshake.MAX_DISCARDED", 100_000)
    async with FakeAgent(tmp_path / "a", kind="serial", mute=True, noise=b"x" * 200_000):
        error = await fault(Serial(str(tmp_path / "a")))

    assert "more than 100000 bytes came before the agent's OK" in str(error)


async def test_hybrid_vsock_is_asked_again_until_the_guest_listens(tmp_path):
    asked = 0

    async def vmm(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readline()
        if asked > 2:
            writer.write(b"OK 5\n")
            await writer.drain()
            await reader.read()
        writer.close()

    async with listening(tmp_path / "a", vmm):
        with await dial(HybridVsock(str(tmp_path / "a"), 1024), PATIENCE):
            assert asked == 3


async def test_hybrid_vsock_that_never_listens_runs_into_the_deadline_with_the_last_reason(tmp_path):
    error = await fault(HybridVsock(str(tmp_path / "a"), 1024), 0.1)

    assert error.timed_out
    assert str(error).endswith("no answer in 0.1 s: No such file or directory")


async def test_a_vmm_that_keeps_a_connection_without_an_answer_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr(dial_module, "_ATTEMPT_TIMEOUT", 0.05)
    async with FakeAgent(tmp_path / "a", kind="hvsock", mute=True):
        error = await fault(HybridVsock(str(tmp_path / "a"), 1024), 0.3)

    assert str(error).endswith("the VMM did not answer CONNECT 1024")


async def test_a_wrong_answer_of_the_vmm_is_final(tmp_path):
    async with FakeAgent(tmp_path / "a", kind="hvsock", noise=b"ERR\n"):
        error = await fault(HybridVsock(str(tmp_path / "a"), 1024))

    assert not error.timed_out
    assert "the VMM answered CONNECT 1024 with b'ERR'" in str(error)


@pytest.fixture
def tcp_for_vsock(monkeypatch):
    """Vsock by TCP: another family whose connection is made in the background. Yields a listener to come up later."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))

        def endpoint(address):
            return socket.socket(), listener.getsockname()

        monkeypatch.setattr(dial_module, "endpoint", endpoint)
        yield listener


async def test_vsock_is_connected_without_blocking(tcp_for_vsock):
    tcp_for_vsock.listen()

    with await dial(Vsock(3, 1024), PATIENCE) as sock:
        assert sock.getpeername() == tcp_for_vsock.getsockname()


async def test_vsock_is_asked_again_until_the_guest_listens(tcp_for_vsock):
    asyncio.get_running_loop().call_later(0.1, tcp_for_vsock.listen)

    with await dial(Vsock(3, 1024), PATIENCE) as sock:
        assert sock.getpeername() == tcp_for_vsock.getsockname()


async def test_vsock_that_never_listens_runs_into_the_deadline_with_the_last_reason(tcp_for_vsock):
    error = await fault(Vsock(3, 1024), 0.1)

    assert str(error) == "vsock://3:1024: no answer in 0.1 s: Connection refused"


async def test_a_real_vsock_address_is_a_vsock_socket():
    sock, where = dial_module.endpoint(Vsock(3, 1024))
    with sock:
        assert sock.family == socket.AF_VSOCK
        assert where == (3, 1024)


async def test_a_cancelled_dial_leaves_no_socket_behind(tmp_path):
    async with FakeAgent(tmp_path / "a", kind="serial", mute=True) as agent:
        task = asyncio.ensure_future(dial(Serial(str(tmp_path / "a")), PATIENCE))
        await agent.greeted.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        async with asyncio.timeout(PATIENCE):
            await agent.left.wait()
