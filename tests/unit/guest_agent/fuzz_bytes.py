"""Garbage on the agent's connection: frames cut off, changed, doubled, and plain noise, on a socket pair each.

Whatever came before on other connections, the agent must answer a client that does it right on the next one.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Any

from protos.codec import MessageCodec
from protos.lean.gen import grpc as pb
from ttrpc.envelope import Request, encode_request
from ttrpc.frame import MESSAGE_MAX, REQUEST, encode_frame
from ttrpc.server import Server

#: Seconds for one connection, garbage and answer together.
SECONDS = 20.0
_CHECK = encode_frame(1, REQUEST, 0, encode_request(Request("grpc.Health", "Check")))
#: Garbage is drawn from this seed, so that what was found once is found again.
_SEED = 3


def _frames(chance: random.Random) -> bytes:
    """A few frames, some of them of calls that the agent has."""
    frames = b""
    for _ in range(chance.randrange(1, 6)):
        method = chance.choice(("Check", "CreateContainer", "ReadStdout", "CopyFile", "", "x" * 300, "\0"))
        service = chance.choice(("grpc.AgentService", "grpc.Health", "", "nobody"))
        payload = chance.randbytes(chance.choice((0, 1, 40, 4000)))
        request = encode_request(Request(service, method, payload, chance.choice((0, 1, -1, 1 << 62))))
        stream_id = chance.choice((0, 1, 2, 3, (1 << 32) - 1, chance.getrandbits(32)))
        frames += encode_frame(stream_id, chance.randrange(256), chance.randrange(256), request)
    return frames


def _changed(data: bytes, chance: random.Random) -> bytes:
    """Some bytes of `data` replaced, and perhaps the end of it gone."""
    changed = bytearray(data)
    for _ in range(chance.randrange(8)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed[: chance.choice((len(changed), chance.randrange(len(changed)) + 1))])


def garbage(chance: random.Random) -> bytes:
    """What one connection brings."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 5000))
    if kind == 1:
        return struct.pack(">IIBB", chance.choice((MESSAGE_MAX + 1, (1 << 32) - 1)), 1, REQUEST, 0) + bytes(100_000)
    return _changed(_frames(chance), chance) if kind == 2 else _frames(chance)


async def throw(services: list[Any], connections: int) -> int:
    """Throw garbage at `services` on so many connections, with a proper call after each; how many were answered."""
    chance, answered = random.Random(_SEED), 0
    async with Server(services, MessageCodec(), require_same_user=False) as server:
        for _ in range(connections):
            async with asyncio.timeout(SECONDS):
                await _exchange(server, garbage(chance), answer=False)
                answered += await _exchange(server, _CHECK, answer=True)
        await server.close(grace=0)
    return answered


async def _exchange(server: Server, data: bytes, *, answer: bool) -> bool:
    """Send `data` on a connection of its own and hang up; with `answer`, whether a response comes before that."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        await loop.connect_accepted_socket(server.protocol, theirs)
        # A response that nobody reads can't hold this up: what is sent fits the socket's buffer, or is read.
        await loop.sock_sendall(ours, data)
        if not answer:
            return False
        wanted = pb.HealthCheckResponse(status=pb.HealthCheckResponseServingStatus.SERVING)
        return (await loop.sock_recv(ours, 4096)).endswith(MessageCodec().encode(wanted))
