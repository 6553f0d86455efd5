"""A message, its codec, services made of functions, and raw peers: what the ttrpc tests share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from ttrpc.client import Channel
from ttrpc.codec import DecodeError
from ttrpc.envelope import Request, Response, RpcStatus, decode_response, encode_request, encode_response
from ttrpc.frame import REQUEST, RESPONSE, Frame, FrameParser, encode_frame
from ttrpc.server import Server
from ttrpc.server_streams import Service

SERVICE = "demo.v1.Echo"
UU, US, SU, SS = (
    Cardinality.UNARY_UNARY,
    Cardinality.UNARY_STREAM,
    Cardinality.STREAM_UNARY,
    Cardinality.STREAM_STREAM,
)
#: Seconds after which a test that waits has failed.
PATIENCE = 10.0


@dataclass(frozen=True)
class Note:
    """The only message: a text, which is its own encoding."""

    text: str


class NoteCodec:
    """Encodes notes; anything that is not UTF-8 does not decode."""

    def encode(self, message: Any) -> bytes:
        return message.text.encode()

    def decode(self, message_type: Any, data: bytes) -> Any:
        try:
            return message_type(data.decode())
        except UnicodeDecodeError as exc:
            raise DecodeError("not a note") from exc


Func = Callable[[Any], Awaitable[None]]


class Methods:
    """A service made of functions: `Methods(Echo=(UU, echo))`."""

    def __init__(self, **methods: tuple[Cardinality, Func]) -> None:
        self._methods = methods

    def __mapping__(self) -> dict[str, Handler]:
        return {
            f"/{SERVICE}/{name}": Handler(func, cardinality, Note, Note)
            for name, (cardinality, func) in self._methods.items()
        }


async def echo(stream: Any) -> None:
    """Answer a single message with itself."""
    await stream.send_message(await stream.recv_message())


async def echo_all(stream: Any) -> None:
    """Answer every message with itself."""
    async for message in stream:
        await stream.send_message(message)


async def hang(stream: Any) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def echo_service() -> Methods:
    """The service that most tests need."""
    return Methods(Echo=(UU, echo), EchoAll=(SS, echo_all), Hang=(UU, hang))


def listener(path: Path) -> socket.socket:
    """A bound and listening UNIX socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


@asynccontextmanager
async def serving(path: Path, *services: Service, **options: Any) -> AsyncIterator[Server]:
    """A server that listens on `path`."""
    async with asyncio.timeout(PATIENCE * 3), Server(services or [echo_service()], NoteCodec(), **options) as server:
        await server.listen(listener(path))
        yield server
        await server.close(0)


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Channel]:
    """A channel to the server on `path`."""
    channel = await Channel.connect_unix(path, NoteCodec(), timeout=PATIENCE)
    try:
        yield channel
    finally:
        channel.close()
        await channel.wait_closed()


async def call(channel: Channel, method: str, text: str = "", **options: Any) -> str:
    """Make a unary call as generated stubs do; return the text of the response."""
    async with channel.request(f"/{SERVICE}/{method}", UU, Note, Note, **options) as stream:
        await stream.send_message(Note(text), end=True)
        reply = await stream.recv_message()
    assert reply is not None
    return reply.text


class RawPeer:
    """The other end of a connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._parser = FrameParser()
        self._frames: list[Any] = []

    def send(self, data: bytes) -> None:
        """Write bytes, well-formed or not."""
        self.writer.write(data)

    async def frame(self) -> Frame:
        """The next frame; EOFError at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            while not self._frames:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self._frames += self._parser.feed(data)
        return self._frames.pop(0)

    async def close(self) -> None:
        """Disconnect."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass


@asynccontextmanager
async def raw_client(path: Path) -> AsyncIterator[RawPeer]:
    """A connection to a server under test."""
    peer = RawPeer(*await asyncio.open_unix_connection(str(path)))
    try:
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def raw_server() -> AsyncIterator[tuple[Channel, RawPeer]]:
    """A channel under test, and the server's end of it."""
    ours, theirs = socket.socketpair()
    peer = RawPeer(*await asyncio.open_unix_connection(sock=theirs))
    channel = await Channel.over_socket(ours, NoteCodec())
    try:
        yield channel, peer
    finally:
        channel.close()
        await channel.wait_closed()
        await peer.close()


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def request(stream_id: int, method: str, payload: bytes = b"", flags: int = 0, **fields: Any) -> bytes:
    """The frame of a request."""
    return encode_frame(stream_id, REQUEST, flags, encode_request(Request(SERVICE, method, payload, **fields)))


def error(code: Status, message: str) -> Response:
    """The response of a failure."""
    return Response(RpcStatus(code.value, message))


async def response(client: RawPeer) -> tuple[int, Response]:
    """The next response, and its stream."""
    frame = await client.frame()
    return frame.stream_id, decode_response(frame.payload)


async def failure(coroutine: Any) -> tuple[Status, str | None]:
    """Status and text of the GRPCError that `coroutine` raises."""
    with pytest.raises(GRPCError) as caught:
        await coroutine
    return caught.value.status, caught.value.message


class Gate:
    """A handler that waits, and tells what becomes of it."""

    def __init__(self) -> None:
        self.entered = 0
        self.cancelled = 0
        self.open = asyncio.Event()

    async def __call__(self, stream: Any) -> None:
        self.entered += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await echo(stream)


def open_call(channel: Channel, cardinality: Cardinality, **options: Any) -> Any:
    """A call as a stub gets it."""
    return channel.request(f"/{SERVICE}/Any", cardinality, Note, Note, **options)


def respond(peer: RawPeer, stream_id: int, text: str) -> None:
    """Answer a unary call."""
    peer.send(encode_frame(stream_id, RESPONSE, 0, encode_response(text.encode())))
