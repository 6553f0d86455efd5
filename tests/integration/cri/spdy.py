"""A client of CRI's streaming server as kubelet and kubectl are one: SPDY/3.1, subprotocol v4.channel.k8s.io.

An upgraded HTTP connection carries one SPDY stream for each of stdin, stdout, stderr, resize and error. What ended the
command is told on the last, as a Kubernetes `Status`; nothing at all there means success.
"""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

#: Seconds for each thing that is waited for.
TIMEOUT = 60.0

_PROTOCOL = "v4.channel.k8s.io"
_PORT_PROTOCOL = "portforward.k8s.io"
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_CONTROL = 0x8003
_FIN = 1


class StreamingError(Exception):
    """The server refused the connection, or broke it."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, and what the server says of it if that is not zero."""

    exit_code: int
    message: str = ""


class RemoteCommand:
    """A command, or an attachment to one, at the other end of a connection; made by `streaming`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        # Without SPDY's preset dictionary: headers may do without, and those of replies are skipped.
        self._compressor = zlib.compressobj()
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._received: dict[str, bytearray] = {}
        self._ended: set[str] = set()
        self._replied: set[str] = set()
        self._changed = asyncio.Condition()

    @property
    def stdout(self) -> bytes:
        """What has come on standard output, or on the terminal."""
        return bytes(self._received.get("stdout", b""))

    @property
    def stderr(self) -> bytes:
        """What has come on standard error."""
        return bytes(self._received.get("stderr", b""))

    async def open_streams(self, names: list[str], **headers: str) -> None:
        """Open the streams, each with `headers`, and wait until the server has them all."""
        for number, name in enumerate(names):
            self._ids[name] = 2 * number + 1
            self._names[2 * number + 1] = name
            self._received[name] = bytearray()
            header = struct.pack(">III", self._ids[name], 0, 0)[:10]
            self._control(_SYN_STREAM, header + self._headers({"streamtype": name, **headers}))
        await self._until(lambda: self._replied >= set(names), "the server takes the streams")

    def _headers(self, headers: dict[str, str]) -> bytes:
        words = [word.encode() for pair in headers.items() for word in pair]
        plain = struct.pack(">I", len(headers)) + b"".join(struct.pack(">I", len(word)) + word for word in words)
        return self._compressor.compress(plain) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def _control(self, kind: int, payload: bytes) -> None:
        self._writer.write(struct.pack(">HHI", _CONTROL, kind, len(payload)) + payload)

    async def write(self, data: bytes) -> None:
        """Type, or feed."""
        for start in range(0, len(data), 1 << 16):
            self._data("stdin", data[start : start + (1 << 16)])
            await self._writer.drain()

    async def close_stdin(self) -> None:
        """End the input, and go on listening."""
        self._data("stdin", b"", _FIN)
        await self._writer.drain()

    async def exchange(self, data: bytes) -> bytes:
        """Send `data` to a forwarded port, and wait for as much to come back."""
        self._data("data", data)
        await self._writer.drain()
        await self._until(lambda: len(self._received["data"]) >= len(data), "as much comes back")
        return bytes(self._received["data"])

    async def refusal(self) -> str:
        """Wait until a forwarded port is closed; what is said of it."""
        await self._until(lambda: self._ended >= {"error", "data"}, "the port is closed")
        return self._received["error"].decode()

    async def resize(self, width: int, height: int) -> None:
        """Tell the terminal's size in characters."""
        self._data("resize", json.dumps({"Width": width, "Height": height}).encode() + b"\n")
        await self._writer.drain()

    def _data(self, name: str, data: bytes, flags: int = 0) -> None:
        self._writer.write(struct.pack(">II", self._ids[name], flags << 24 | len(data)) + data)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(TIMEOUT), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError as error:
            raise AssertionError(f"{what}: not within {TIMEOUT:g} s; got {self._received!r}"[:2000]) from error

    async def shows(self, text: bytes) -> None:
        """Wait until `text` is in the output."""
        await self._until(lambda: text in self.stdout, f"output shows {text!r}")

    async def outcome(self) -> Outcome:
        """Wait for the end of the command, and of its output."""
        outputs = {"error", "stdout", "stderr"} & self._ids.keys()
        await self._until(lambda: self._ended >= outputs, "the command ends")
        text = bytes(self._received["error"])
        status: dict[str, Any] = json.loads(text) if text else {"status": "Success"}
        if status["status"] == "Success":
            return Outcome(0)
        causes = status.get("details", {}).get("causes", [])
        codes = [int(cause["message"]) for cause in causes if cause.get("reason") == "ExitCode"]
        return Outcome(codes[0] if codes else -1, status.get("message", ""))

    async def read_frames(self) -> None:
        """Take what the server sends until it hangs up."""
        try:
            while True:
                first, second = struct.unpack(">II", await self._reader.readexactly(8))
                payload = await self._reader.readexactly(second & 0xFFFFFF)
                async with self._changed:
                    self._take(first, second >> 24, payload)
                    self._changed.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError):
            async with self._changed:
                self._ended.update(self._ids)
                self._changed.notify_all()

    def _take(self, first: int, flags: int, payload: bytes) -> None:
        if not first >> 31:
            self._received[self._names[first]] += payload
            self._end(first, flags & _FIN)
            return
        kind = first & 0xFFFF
        if kind == _PING:
            self._control(_PING, payload)
        elif kind in (_SYN_REPLY, _RST_STREAM):
            stream = struct.unpack(">I", payload[:4])[0]
            self._replied.add(self._names[stream])
            self._end(stream, kind == _RST_STREAM or flags & _FIN)

    def _end(self, stream: int, is_last: int) -> None:
        if is_last:
            self._ended.add(self._names[stream])


@asynccontextmanager
async def streaming(
    url: str, *, stdin: bool = False, stdout: bool = True, stderr: bool = True, tty: bool = False
) -> AsyncIterator[RemoteCommand]:
    """The command behind a URL of CRI's `Exec` or `Attach`, with the streams that were asked for there.

    Leaving the body hangs up. Raises `StreamingError` if the server does not switch protocols.
    """
    wanted = {"error": True, "stdin": stdin, "stdout": stdout, "stderr": stderr and not tty, "resize": tty}
    async with _connected(url, _PROTOCOL) as command:
        await command.open_streams([name for name, is_wanted in wanted.items() if is_wanted])
        yield command


@asynccontextmanager
async def forwarded(url: str, port: int) -> AsyncIterator[RemoteCommand]:
    """A connection to `port` of the pod behind a URL of CRI's `PortForward`: streams `data` and `error`."""
    async with _connected(url, _PORT_PROTOCOL) as connection:
        await connection.open_streams(["error", "data"], port=str(port), requestid="0")
        yield connection


@asynccontextmanager
async def _connected(url: str, protocol: str) -> AsyncIterator[RemoteCommand]:
    place = urlsplit(url)
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        await _upgrade(reader, writer, place.path, place.netloc, protocol)
        command = RemoteCommand(reader, writer)
        listening = asyncio.create_task(command.read_frames())
        try:
            yield command
        finally:
            listening.cancel()
            await asyncio.wait({listening})
    finally:
        writer.transport.abort()


async def _upgrade(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, host: str, protocol: str
) -> None:
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        f"X-Stream-Protocol-Version: {protocol}",
        "Content-Length: 0",
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    async with asyncio.timeout(TIMEOUT):
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        if not answer.startswith("HTTP/1.1 101 "):
            raise StreamingError(f"{answer.splitlines()[0]}: {(await reader.read(1000)).decode(errors='replace')}")
