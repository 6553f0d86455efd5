"""Who may connect."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from ttrpc.peer import Peer, check_same_user, peer_of

pytestmark = pytest.mark.anyio


async def test_the_peer_of_a_unix_socket_is_known() -> None:
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, sock=ours)

    with theirs:
        assert peer_of(transport) == Peer(os.getpid(), os.geteuid(), os.getegid())
    transport.close()


async def test_the_peer_of_another_transport_is_not() -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", port)

    assert peer_of(transport) is None
    assert peer_of(asyncio.Transport()) is None
    transport.close()
    server.close()


def test_our_own_user_and_group_may_come_in() -> None:
    check_same_user(Peer(1, os.geteuid(), os.getegid()))


@pytest.mark.parametrize(
    "peer", [None, Peer(1, os.geteuid() + 1, os.getegid()), Peer(1, os.geteuid(), os.getegid() + 1)]
)
def test_others_may_not(peer: Peer | None) -> None:
    with pytest.raises(PermissionError, match="is not of user"):
        check_same_user(peer)
