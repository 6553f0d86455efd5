"""Contract: all descriptors of all interfaces that a pod may have reach the daemon."""

from __future__ import annotations

import os
import socket

import pytest

from sandbox.network import wire, worker
from sandbox.network.client import Worker
from sandbox.network.plan import MAX_ENDPOINTS, MAX_QUEUES

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("count", [0, wire.MAX_FDS, 2 * MAX_ENDPOINTS * MAX_QUEUES])
async def test_descriptors_come_along_however_many_there_are(count: int):
    theirs, ours = socket.socketpair()
    with theirs, ours:
        ours.setblocking(False)
        client, received = Worker(ours, None), []

        worker._send(theirs, wire.pack({"devices": []}), [os.open(os.devnull, os.O_RDONLY) for _ in range(count)])

        length = wire.body_length(await client._receive(wire.HEADER_SIZE, received))
        assert wire.unpack(await client._receive(length, received)) == {"devices": []}
        assert len(received) == count
        for fd in received:
            os.close(fd)
