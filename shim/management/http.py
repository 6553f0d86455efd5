"""As much of HTTP/1.1 as the management requests need (RFC 9112): one request, one response, then the end.

The parser is strict and bounded, and refuses what it need not know, such as chunked bodies.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

#: Longest head of a request or response, in bytes.
HEAD_MAX: Final = 16 << 10
#: Longest body of a request, in bytes: packet filter rules and policies.
BODY_MAX: Final = 1 << 20
_HEADERS_MAX = 100
_CHUNK = 16 << 10

_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]{0,8000}) HTTP/1\.[01]")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([\t -~\x80-\xff]*)")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([0-9]{3})(?: .*)?")
_LENGTH = re.compile(r"[0-9]{1,12}")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

#: Gives at most so many bytes of a connection; empty at its end.
Receive = Callable[[int], Awaitable[bytes]]


class HttpError(Exception):
    """What came is answered with `status` and this one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A whole request; `query` has the last value of each name, decoded."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    """What is answered."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def error(cls, status: int, message: str) -> Response:
        """One line about what went wrong."""
        return cls(f"{message}\n".encode(errors="backslashreplace"), status)

    def encode(self) -> bytes:
        """The bytes to send."""
        head = (
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode("ascii") + self.body


async def read_request(receive: Receive) -> Request | None:
    """The request on a connection; None if it closed without one. Raises `HttpError`."""
    head, rest = await _read_head(receive)
    if head is None:
        return None
    lines = head.decode("latin-1").split("\r\n")
    found = _REQUEST_LINE.fullmatch(lines[0])
    if not found:
        raise HttpError(400, "not a request of HTTP/1.1")
    headers = _headers(lines[1:])
    if "transfer-encoding" in headers:
        raise HttpError(411, "a body must come with its length")
    length = _content_length(headers)
    if length > BODY_MAX:
        raise HttpError(413, f"the body is larger than {BODY_MAX} bytes")
    path, _, query = found[2].partition("?")
    return Request(found[1], unquote(path), parse_query(query), await _read_body(receive, rest, length))


async def read_response(receive: Receive, body_max: int) -> tuple[int, bytes]:
    """Status and body of a response of a server that closes the connection behind it. Raises `HttpError`."""
    head, rest = await _read_head(receive)
    lines = (head or b"").decode("latin-1").split("\r\n")
    found = _STATUS_LINE.fullmatch(lines[0])
    if not found:
        raise HttpError(400, "the answer is not HTTP/1.1")
    length = _content_length(_headers(lines[1:]))
    if length > body_max:
        raise HttpError(413, f"the answer is larger than {body_max} bytes")
    return int(found[1]), await _read_body(receive, rest, length)


async def _read_head(receive: Receive) -> tuple[bytes | None, bytes]:
    """The head without its end, and what came behind it; None if nothing came at all."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > HEAD_MAX:
            raise HttpError(431, f"the head is larger than {HEAD_MAX} bytes")
        chunk = await receive(_CHUNK)
        if not chunk:
            if data:
                raise HttpError(400, "the connection ended in the middle of a head")
            return None, b""
        data += chunk
    return data[:end], data[end + 4 :]


async def _read_body(receive: Receive, start: bytes, length: int) -> bytes:
    parts, left = [start[:length]], length - len(start)
    while left > 0:
        chunk = await receive(min(left, _CHUNK))
        if not chunk:
            raise HttpError(400, "the connection ended in the middle of a body")
        parts.append(chunk)
        left -= len(chunk)
    return b"".join(parts)


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > _HEADERS_MAX:
        raise HttpError(431, f"more than {_HEADERS_MAX} header fields")
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if not found:
            raise HttpError(400, "malformed header field")
        name = found[1].lower()
        if name == "content-length" and headers.get(name, found[2]) != found[2]:
            raise HttpError(400, "two lengths of one body")
        headers[name] = found[2]
    return headers


def _content_length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "0").strip()
    if not _LENGTH.fullmatch(text):
        raise HttpError(400, "malformed Content-Length")
    return int(text)


def parse_query(text: str) -> dict[str, str]:
    """Names and values of a query string, decoded; the last of a name counts."""
    pairs = (item.partition("=") for item in text.split("&") if item)
    return {unquote(name.replace("+", " ")): unquote(value.replace("+", " ")) for name, _, value in pairs}


def unquote(text: str) -> str:
    """Percent-decoding (RFC 3986, section 2.1); bytes that are no UTF-8 become surrogate escapes, as in paths."""
    plain = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text.encode("latin-1"))
    return plain.decode(errors="surrogateescape")


def quote(text: str) -> str:
    """Percent-encoding of everything but letters, digits and `-._~/`."""
    data = text.encode(errors="surrogateescape")
    return "".join(chr(byte) if chr(byte) in _UNRESERVED else f"%{byte:02X}" for byte in data)


_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
