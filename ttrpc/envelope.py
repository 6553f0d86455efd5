"""The envelopes of ttrpc: `ttrpc.Request`, `ttrpc.Response`, `google.rpc.Status`, and their codec.

    Request  {1 service, 2 method, 3 payload bytes, 4 timeout_nano int64, 5 repeated KeyValue {1 key, 2 value}}
    Response {1 google.rpc.Status {1 code int32, 2 message, 3 repeated details}, 2 payload bytes}

A status is present only in a failure: Go clients take "absent" and "code 0" alike for success.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ttrpc.wire import decode_text, encode_bytes, encode_varint, fields, signed

#: Details of a status that are kept; a peer may send millions.
DETAILS_MAX = 64


class Request(NamedTuple):
    """What a call asks for. `timeout_nano` is the time left, in nanoseconds; 0 means no deadline."""

    service: str
    method: str
    payload: bytes = b""
    timeout_nano: int = 0
    metadata: tuple[tuple[str, str], ...] = ()


class RpcStatus(NamedTuple):
    """google.rpc.Status: `code` is a gRPC code, `details` are encoded `google.protobuf.Any` messages, kept as bytes."""

    code: int = 0
    message: str = ""
    details: tuple[bytes, ...] = ()


class Response(NamedTuple):
    """How a call ended. Without `status`, or with its code 0, it succeeded."""

    status: RpcStatus | None = None
    payload: bytes = b""


@lru_cache(maxsize=512)
def _target(service: str, method: str) -> bytes:
    """Return the fields `service` and `method`, which are the same for every call of a method."""
    return _encode_pair(service, method)


def encode_request(request: Request) -> bytes:
    """Return the bytes of a `ttrpc.Request`."""
    service, method, payload, timeout_nano, metadata = request
    out = _target(service, method)
    if payload:
        out += encode_bytes(0x1A, payload)
    if timeout_nano:
        out += b"\x20" + encode_varint(timeout_nano)
    if metadata:
        out += b"".join([encode_bytes(0x2A, _encode_pair(key, value)) for key, value in metadata])
    return out


def decode_request(data: bytes) -> Request:
    """Return the `ttrpc.Request` in `data`; raise `DecodeError` when there is none."""
    service = method = ""
    payload = b""
    timeout_nano = 0
    metadata: list[tuple[str, str]] = []
    for tag, value in fields(data):
        if tag == 0x0A:
            service = decode_text(value)
        elif tag == 0x12:
            method = decode_text(value)
        elif tag == 0x1A:
            payload = value
        elif tag == 0x20:
            timeout_nano = signed(value, 64)
        elif tag == 0x2A:
            metadata.append(_decode_pair(value))
    return Request(service, method, payload, timeout_nano, tuple(metadata))


def encode_response(payload: bytes) -> bytes:
    """Return the bytes of the `ttrpc.Response` of a success; those of an empty message are none."""
    return encode_bytes(0x12, payload) if payload else b""


def response_head(length: int) -> bytes:
    """Return what comes before the `length` bytes of payload in the `ttrpc.Response` of a success."""
    return b"\x12" + encode_varint(length)


def encode_error(status: RpcStatus) -> bytes:
    """Return the bytes of the `ttrpc.Response` of a failure. Text that UTF-8 can't hold (file names) is escaped."""
    code, message, details = status
    out = b"\x08" + encode_varint(code) if code else b""
    if message:
        out += encode_bytes(0x12, message.encode(errors="backslashreplace"))
    out += b"".join([encode_bytes(0x1A, detail) for detail in details])
    return encode_bytes(0x0A, out)


def decode_response(data: bytes) -> Response:
    """Return the `ttrpc.Response` in `data`; raise `DecodeError` when there is none."""
    status: RpcStatus | None = None
    details: list[bytes] = []
    payload = b""
    for tag, value in fields(data):
        if tag == 0x12:
            payload = value
        elif tag == 0x0A:
            status = _decode_status(value, status or RpcStatus(), details)
    return Response(status and status._replace(details=tuple(details)), payload)


def _decode_status(data: bytes, status: RpcStatus, details: list[bytes]) -> RpcStatus:
    """Return `status` with the fields in `data` merged in, as protobuf asks where a message comes in two parts.

    The details go to the end of `details`; beyond `DETAILS_MAX` they are dropped.
    """
    code, message, _ = status
    for tag, value in fields(data):
        if tag == 0x08:
            code = signed(value, 32)
        elif tag == 0x12:
            message = decode_text(value)
        elif tag == 0x1A and len(details) < DETAILS_MAX:
            details.append(value)
    return RpcStatus(code, message, ())


def _encode_pair(key: str, value: str) -> bytes:
    """Return two strings as fields 1 and 2: a `KeyValue`, or the head of a `Request`."""
    return b"".join([encode_bytes(tag, text.encode()) for tag, text in ((0x0A, key), (0x12, value)) if text])


def _decode_pair(data: bytes) -> tuple[str, str]:
    """Return the `KeyValue` in `data`."""
    key = value = ""
    for tag, text in fields(data):
        if tag == 0x0A:
            key = decode_text(text)
        elif tag == 0x12:
            value = decode_text(text)
    return key, value
