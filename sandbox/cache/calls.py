"""Unary gRPC calls over a UNIX socket, with as much of HTTP/2 (RFC 9113) as they take.

grpclib would cost each pod's daemon 2 MB for two calls. Requests are written without compression; of an answer's
headers only the end is looked at: a call has succeeded if a message came. Messages are small: no window is used up.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import Any, TypeVar

from protos.codec import decode, encode
from ttrpc.codec import DecodeError

T = TypeVar("T")

#: Longest message, in bytes: less than the window that an HTTP/2 connection begins with.
MESSAGE_LIMIT = 48 << 10
_FRAME_LIMIT = 16384
_FRAMES_LIMIT = 100

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
#: `:method: POST` and `:scheme: http` by their index in HPACK's static table (RFC 7541, appendix A).
_POST_HTTP = b"\x83\x86"


class CallError(Exception):
    """The call failed, or the other end is no gRPC server; one line."""


class Connection:
    """One connection to a server; `close` it. One call at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._stream = 1
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    @classmethod
    async def open(cls, path: Path) -> Connection:
        """Connect; raises `OSError`."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Without waiting: a server with that long a queue is of no help.
            sock.setblocking(False)
            sock.connect(str(path))
            return cls(*await asyncio.open_unix_connection(sock=sock))
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        """Hang up; idempotent."""
        self._writer.close()

    async def call(self, method: str, request: Any, reply_type: type[T]) -> T:
        """Call `/package.Service/Method`; raises `CallError`, `OSError`."""
        stream, self._stream = self._stream, self._stream + 2
        message = encode(request)
        body = struct.pack(">BI", 0, len(message)) + message
        self._writer.write(
            _frame(_HEADERS, _END_HEADERS, stream, _headers(method)) + _frame(_DATA, _END_STREAM, stream, body)
        )
        try:
            data = await self._answer(stream)
        except asyncio.IncompleteReadError as error:
            raise CallError(f"{method}: the server has hung up") from error
        if len(data) < 5:
            raise CallError(f"{method} was refused: the server's log says why")
        compressed, size = struct.unpack_from(">BI", data)
        if compressed or size != len(data) - 5:
            raise CallError(f"{method}: the answer is malformed")
        try:
            return decode(reply_type, data[5:])
        except DecodeError as error:
            raise CallError(f"{method}: the answer is malformed: {error}") from error

    async def _answer(self, stream: int) -> bytes:
        """The data of a stream, until its end."""
        data = b""
        for _ in range(_FRAMES_LIMIT):
            kind, flags, number, payload = await self._frame()
            if kind == _SETTINGS and not flags & _ACK:
                self._writer.write(_frame(_SETTINGS, _ACK, 0, b""))
            elif kind == _PING and not flags & _ACK:
                self._writer.write(_frame(_PING, _ACK, 0, payload))
            elif kind == _GOAWAY or (kind == _RESET and number == stream):
                raise CallError("the server has reset the call")
            elif number == stream and kind in (_DATA, _HEADERS):
                data += payload if kind == _DATA else b""
                if flags & _END_STREAM:
                    return data
            if len(data) > MESSAGE_LIMIT:
                break
        raise CallError("the answer has no end")

    async def _frame(self) -> tuple[int, int, int, bytes]:
        head = await self._reader.readexactly(9)
        size, kind, flags, number = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
        if size > _FRAME_LIMIT:
            raise CallError("the server does not speak HTTP/2")
        return kind, flags, number & 0x7FFFFFFF, await self._reader.readexactly(size)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _headers(path: str) -> bytes:
    """HPACK: literals that enter no table, names by their index in the static table where they have one."""
    named = ((b"\x04", path), (b"\x01", "localhost"), (b"\x0f\x10", "application/grpc"), (b"\x00\x02te", "trailers"))
    return _POST_HTTP + b"".join(name + bytes((len(value),)) + value.encode() for name, value in named)
