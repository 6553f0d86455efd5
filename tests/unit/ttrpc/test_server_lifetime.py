"""The server over UNIX sockets: who may connect, how much, what a lost connection means, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status

from tests.unit.ttrpc.support import (
    PATIENCE,
    UU,
    Gate,
    Methods,
    Note,
    NoteCodec,
    RawPeer,
    call,
    connected,
    echo_service,
    error,
    listener,
    raw_client,
    request,
    response,
    serving,
    until,
)
from ttrpc import peer as peer_module
from ttrpc.envelope import Response
from ttrpc.fdtransport import FdTransport
from ttrpc.server import Server

pytestmark = pytest.mark.anyio


async def test_the_loss_of_a_connection_cancels_its_handlers_and_no_others(socket_path: Path) -> None:
    gate = Gate()
    async with serving(socket_path, Methods(Wait=(UU, gate))), raw_client(socket_path) as staying:
        staying.send(request(1, "Wait", b"stays"))
        async with raw_client(socket_path) as leaving:
            leaving.send(request(1, "Wait") + request(3, "Wait"))
            await until(lambda: gate.entered == 3)
        await until(lambda: gate.cancelled == 2)

        gate.open.set()
        assert await response(staying) == (1, Response(None, b"stays"))


async def test_streams_are_capped_per_connection(socket_path: Path) -> None:
    async with serving(socket_path, streams_max=2), raw_client(socket_path) as client:
        client.send(request(1, "Hang") + request(3, "Hang") + request(5, "Hang"))

        text = "2 calls are open on this connection"
        assert await response(client) == (5, error(Status.RESOURCE_EXHAUSTED, text))


async def test_connections_are_capped(socket_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(socket_path, connections_max=1), connected(socket_path) as channel:
        async with raw_client(socket_path) as refused:
            with pytest.raises((EOFError, ConnectionError)):
                await refused.frame()

        assert await call(channel, "Echo", "fine") == "fine"
    assert "refused a connection: 1 connections are open" in caplog.text


async def test_another_user_is_refused(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peer_module.os, "geteuid", lambda: 12345)
    async with serving(socket_path) as server, raw_client(socket_path) as client:
        client.send(request(1, "Echo"))
        with pytest.raises((EOFError, ConnectionError)):
            await client.frame()

        assert not server._connections
    assert "is not of user 12345" in caplog.text


async def test_another_user_may_be_let_in(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module.os, "geteuid", lambda: 12345)
    async with serving(socket_path, require_same_user=False), connected(socket_path) as channel:
        assert await call(channel, "Echo", "fine") == "fine"


async def test_a_socket_that_does_not_tell_who_connects_needs_a_decision() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    with sock:
        async with Server([], NoteCodec()) as server:
            with pytest.raises(ValueError, match="needs a UNIX socket"):
                await server.listen(sock)


async def test_other_sockets_can_be_served() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    async with Server([echo_service()], NoteCodec(), require_same_user=False) as server:
        await server.listen(sock)
        client = RawPeer(*await asyncio.open_connection(*sock.getsockname()))
        client.send(request(1, "Echo", b"hello"))
        assert await response(client) == (1, Response(None, b"hello"))
        await client.close()


async def test_a_single_stream_can_be_served() -> None:
    ours, theirs = socket.socketpair()
    async with Server([echo_service()], NoteCodec()) as server:
        connection = server.protocol()
        FdTransport(asyncio.get_running_loop(), ours.detach(), connection)
        client = RawPeer(*await asyncio.open_unix_connection(sock=theirs))
        client.send(request(1, "Echo", b"hello"))
        assert await response(client) == (1, Response(None, b"hello"))

        await client.close()
        async with asyncio.timeout(PATIENCE):
            await connection.wait_closed()
    assert connection.cause == "end of file"


async def test_a_listener_outlives_garbage_collection(socket_path: Path) -> None:
    async with serving(socket_path):
        gc.collect()
        async with connected(socket_path) as channel:
            assert await call(channel, "Echo", "still here") == "still here"


async def test_closing_lets_handlers_finish_refuses_new_calls_and_disconnects(socket_path: Path) -> None:
    gate = Gate()
    async with serving(socket_path, Methods(Wait=(UU, gate))) as server, raw_client(socket_path) as client:
        client.send(request(1, "Wait", b"finishes"))
        await until(lambda: gate.entered == 1)

        async with asyncio.TaskGroup() as group:
            closing = group.create_task(server.close(PATIENCE))
            await until(lambda: server._closing)
            client.send(request(3, "Wait"))
            assert await response(client) == (3, error(Status.UNAVAILABLE, "ttrpc: the server is closing"))
            assert not closing.done()
            gate.open.set()

        assert await response(client) == (1, Response(None, b"finishes"))
        with pytest.raises(EOFError):
            await client.frame()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(str(socket_path))


async def test_closing_cancels_handlers_that_do_not_finish_in_their_grace(socket_path: Path) -> None:
    gate = Gate()
    async with serving(socket_path, Methods(Wait=(UU, gate))) as server, raw_client(socket_path) as client:
        client.send(request(1, "Wait"))
        await until(lambda: gate.entered == 1)

        await server.close(grace=0.01)
        await server.close(grace=0.01)

        with pytest.raises(EOFError):
            await client.frame()
        await until(lambda: gate.cancelled == 1)


async def test_a_close_that_is_cancelled_cancels_the_handlers_at_once(socket_path: Path) -> None:
    gate = Gate()
    async with serving(socket_path, Methods(Wait=(UU, gate))) as server, raw_client(socket_path) as client:
        client.send(request(1, "Wait"))
        await until(lambda: gate.entered == 1)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await server.close(grace=PATIENCE)

        await until(lambda: gate.cancelled == 1)
        with pytest.raises(EOFError):
            await client.frame()


async def test_a_connection_that_comes_while_the_server_closes_is_refused(socket_path: Path) -> None:
    async with Server([echo_service()], NoteCodec()) as server:
        await server.close()
        ours, theirs = socket.socketpair()
        connection = server.protocol()
        FdTransport(asyncio.get_running_loop(), ours.detach(), connection)

        async with asyncio.timeout(PATIENCE):
            await connection.wait_closed()
        connection.data_received(request(1, "Echo"))
        theirs.close()
    assert connection.cause == "refused"
    assert connection.tasks == []


async def test_an_error_in_the_servers_block_ends_it_at_once_and_stays_what_it_is(socket_path: Path) -> None:
    gate = Gate()
    server = Server([Methods(Wait=(UU, gate))], NoteCodec())

    async def fail_with_a_call_open() -> None:
        async with server:
            await server.listen(listener(socket_path))
            async with raw_client(socket_path) as client:
                client.send(request(1, "Wait"))
                await until(lambda: gate.entered == 1)
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_with_a_call_open()
    assert gate.cancelled == 1


async def test_cancelling_the_servers_task_cancels_its_handlers(socket_path: Path) -> None:
    gate = Gate()

    async def serve() -> None:
        async with Server([Methods(Wait=(UU, gate))], NoteCodec()) as server:
            await server.listen(listener(socket_path))
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve())
        await until(socket_path.exists)
        async with raw_client(socket_path) as client:
            client.send(request(1, "Wait"))
            await until(lambda: gate.entered == 1)
            task.cancel()
            with pytest.raises((EOFError, ConnectionError)):
                await client.frame()

    assert (task.cancelled(), gate.cancelled) == (True, 1)


async def test_a_client_that_reads_nothing_is_read_from_no_more(socket_path: Path) -> None:
    async def big(stream: Any) -> None:
        entered.append(1)
        await stream.send_message(Note("x" * (1 << 20)))

    entered: list[int] = []
    sock = socket.socket(socket.AF_UNIX)
    async with serving(socket_path, Methods(Big=(UU, big))) as server:
        sock.connect(str(socket_path))
        sock.sendall(b"".join(request(stream_id, "Big") for stream_id in range(1, 41, 2)))
        await until(lambda: len(entered) == 20)
        (connection,) = server._connections
        await until(lambda: connection.write_paused)
        sock.sendall(b"".join(request(stream_id, "Big") for stream_id in range(41, 81, 2)))
        transport: Any = connection._transport
        assert not transport.is_reading()
        # What is buffered is one message above the limit, not twenty: the other handlers wait, and so do the requests.
        assert len(connection._drain_waiters) == 19
        assert transport.get_write_buffer_size() < 3 << 20

        reader, writer = await asyncio.open_unix_connection(sock=sock)
        client = RawPeer(reader, writer)
        sizes = [len((await client.frame()).payload) for _ in range(40)]
        await client.close()

    assert len(sizes) == 40
    assert min(sizes) > 1 << 20
