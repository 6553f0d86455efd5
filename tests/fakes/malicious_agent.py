"""A guest agent that wants to harm its host: raw ttrpc frames behind a UNIX socket.

    async with MaliciousAgent(tmp_path / "agent") as agent:
        agent.on("ReadStdout", lie_about_length)

It plays along with what nobody has armed: it serves, makes sandbox and containers, and then is silent wherever an agent
may be. An attack is a function that gets the session, the stream id and the request's payload, and sends what it likes:
`Session.send` takes bytes as they are. `on_connect` attacks each new connection before anything is asked.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from protos.codec import encode
from protos.gen import grpc as pb
from ttrpc.envelope import RpcStatus, decode_request, encode_error, encode_response
from ttrpc.frame import Frame, FrameParser

MIB = 1 << 20
RESPONSE, DATA = 2, 3
#: Silent: what waits for something that may never happen, as a good agent's calls do too.
_SILENT = {"WaitProcess", "ReadStdout", "ReadStderr", "GetOOMEvent"}

Attack = Callable[["Session", int, bytes], Any]


def frame(stream_id: int, payload: bytes, *, kind: int = RESPONSE, flags: int = 0, length: int | None = None) -> bytes:
    """A frame; `length` lies about the payload's."""
    return struct.pack(">IIBB", len(payload) if length is None else length, stream_id, kind, flags) + payload


def answer(stream_id: int, message: Any) -> bytes:
    """A well-formed response."""
    return frame(stream_id, encode_response(message if isinstance(message, bytes) else encode(message)))


def error(stream_id: int, code: int, text: str) -> bytes:
    """A well-formed error, with a text of any length."""
    return frame(stream_id, encode_error(RpcStatus(code, text)))


class Session:
    """One connection of the host."""

    def __init__(self, agent: MaliciousAgent, connection: socket.socket) -> None:
        self.agent = agent
        self._connection = connection
        self._parser = FrameParser()
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()

    async def send(self, data: bytes) -> None:
        """Send bytes, waiting while the host does not read them."""
        async with self._sending:
            await self._loop.sock_sendall(self._connection, data)

    def close(self) -> None:
        """Drop the connection; what was sent still arrives."""
        self._connection.shutdown(socket.SHUT_RDWR)

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Serve until the host hangs up."""
        try:
            if self.agent.on_connect is not None:
                await _maybe(self.agent.on_connect(self))
            while data := await self._loop.sock_recv(self._connection, 1 << 16):
                for item in self._parser.feed(data):
                    if isinstance(item, Frame):
                        group.create_task(self._serve(item))
        except (OSError, ValueError):
            pass
        finally:
            self._connection.close()

    async def _serve(self, request: Frame) -> None:
        call = decode_request(request.payload)
        self.agent.calls[call.method] += 1
        self.agent.news.set()
        attack = self.agent.attacks.get(call.method)
        try:
            if attack is not None:
                await _maybe(attack(self, request.stream_id, call.payload))
            elif call.method not in _SILENT:
                await self.send(answer(request.stream_id, _good(call.method)))
        except (OSError, ValueError):
            # The host has hung up.
            return


class MaliciousAgent:
    """Life: an async context; its socket and connections are gone afterwards."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attacks: dict[str, Attack] = {}
        self.on_connect: Callable[[Session], Any] | None = None
        self.calls: Counter[str] = Counter()
        self.connections = 0
        #: Set at every call.
        self.news = asyncio.Event()

    @property
    def url(self) -> str:
        """The agent URL to connect to."""
        return f"unix://{self.path}"

    def on(self, rpc: str, attack: Attack) -> None:
        """Answer the RPC with `attack`."""
        self.attacks[rpc] = attack

    async def called(self, rpc: str, count: int = 1) -> None:
        """Wait until the RPC has been called `count` times."""
        async with asyncio.timeout(10):
            while self.calls[rpc] < count:
                self.news.clear()
                await self.news.wait()

    async def __aenter__(self) -> MaliciousAgent:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(os.fspath(self.path))
        self._listener.listen()
        self._accepting = asyncio.ensure_future(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        self.path.unlink(missing_ok=True)

    async def _accept(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
                connection.setblocking(False)
                self.connections += 1
                group.create_task(Session(self, connection).run(group))


async def _maybe(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


def _good(method: str) -> bytes:
    if method == "Check":
        return encode(pb.HealthCheckResponse(status=pb.HealthCheckResponseServingStatus.SERVING))
    if method == "GetGuestDetails":
        drivers = ["virtio-fs", "ephemeral", "9p", "local"]
        details = pb.AgentDetails(storage_handlers=drivers, extra_features=["stream-position"])
        return encode(pb.GuestDetailsResponse(agent_details=details))
    return b""


# Attacks, in the order of the docs' list of them


async def oversized(session: Session, stream_id: int, payload: bytes) -> None:
    """A frame above ttrpc's limit, with all of its payload."""
    await session.send(frame(stream_id, bytes(5 * MIB)))


async def four_gigabytes(session: Session, stream_id: int, payload: bytes) -> None:
    """A length of 4 GiB, and then silence."""
    await session.send(frame(stream_id, bytes(MIB), length=0xFFFFFFFF))


async def truncated(session: Session, stream_id: int, payload: bytes) -> None:
    """Half a frame, then the end of the connection."""
    await session.send(frame(stream_id, b"half", length=1000))
    session.close()


async def junk_response(session: Session, stream_id: int, payload: bytes) -> None:
    """A frame whose payload is no response."""
    await session.send(frame(stream_id, b"\xff" * 100))


async def junk_message(session: Session, stream_id: int, payload: bytes) -> None:
    """A response whose payload is no message."""
    await session.send(frame(stream_id, encode_response(b"\x0a\xff\xff\xff\x7f")))


async def data_frames(session: Session, stream_id: int, payload: bytes) -> None:
    """Data where there is one response."""
    await session.send(frame(stream_id, b"data", kind=DATA) * 100)


async def strangers(session: Session, stream_id: int, payload: bytes) -> None:
    """Responses, requests and data for streams that are even, not open, from the future, and of no type; no answer."""
    ids = (0, 2, stream_id + 1, stream_id + 2, stream_id + 1000, 0xFFFFFFFF)
    await session.send(b"".join(frame(number, b"\x12\x01x", kind=kind) for number in ids for kind in (0, 1, 2, 3, 255)))


async def twice(session: Session, stream_id: int, payload: bytes) -> None:
    """The same answer a thousand times."""
    await session.send(answer(stream_id, b"") * 1000)


async def million_details(session: Session, stream_id: int, payload: bytes) -> None:
    """An error with as many details as fit."""
    status = b"\x08\x05" + b"\x1a\x00" * 30_000
    await session.send(frame(stream_id, b"\x0a" + _varint(len(status)) + status))


async def million_fields(session: Session, stream_id: int, payload: bytes) -> None:
    """A response of unknown fields only: a second or two of decoding."""
    await session.send(frame(stream_id, encode_response(b"\x98\x3e\x01" * (4 * MIB // 3 - 10))))


async def long_text(session: Session, stream_id: int, payload: bytes) -> None:
    """An error of control characters, nearly as long as a frame may be."""
    await session.send(error(stream_id, 2, "\x1b[2J\r\nlevel=fatal msg=\0\u202e" * 150_000))


async def short_ugly_text(session: Session, stream_id: int, payload: bytes) -> None:
    """An error that would forge a line of the log."""
    await session.send(error(stream_id, 13, 'oops\n\x1b[2Jtime="now" level=fatal msg="\u202eowned"\r\n' * 20))


async def unknown_code(session: Session, stream_id: int, payload: bytes) -> None:
    """A status that gRPC does not have."""
    await session.send(error(stream_id, -(1 << 31), "no such code"))


async def hang_up(session: Session, stream_id: int, payload: bytes) -> None:
    """No answer: the connection is dropped."""
    session.close()


def silence(session: Session, stream_id: int, payload: bytes) -> None:
    """No answer, ever."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


#: Attacks on any call: what they do to it is an error of that call, or its deadline.
ON_ANY_CALL: tuple[Attack, ...] = (
    oversized,
    four_gigabytes,
    truncated,
    junk_response,
    junk_message,
    data_frames,
    strangers,
    million_details,
    million_fields,
    long_text,
    short_ugly_text,
    unknown_code,
    hang_up,
    silence,
)
