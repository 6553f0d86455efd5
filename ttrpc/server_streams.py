"""The server's table of the streams on one connection. Sans-I/O: bytes in, events out, bytes to send.

The rules are those of ttrpc 1.2 (containerd 1.7 and later), of which 1.1 uses the unary part: stream ids are odd and
increase; a fault in one stream is answered on that stream, and the connection is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from grpclib.const import Handler, Status

from ttrpc.codec import DecodeError
from ttrpc.envelope import Request, RpcStatus, decode_request, encode_error, encode_response, response_head
from ttrpc.errors import OversizedMessageError, StreamClosedError, rpc_status
from ttrpc.frame import (
    DATA,
    HEADER,
    MESSAGE_MAX,
    NO_DATA,
    REMOTE_CLOSED,
    REQUEST,
    RESPONSE,
    Frame,
    FrameParser,
    Oversized,
    encode_frame,
)

#: Streams that may be open on a connection at the same time. containerd leaves a `Wait` open per process and attempt.
STREAMS_MAX = 4096


class Service(Protocol):
    """What generated service bases have: a handler for each route `/package.Service/Method`."""

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the handlers by route."""


Routes = Mapping[str, Mapping[str, Handler]]


def build_routes(services: Iterable[Service]) -> Routes:
    """Return the handlers of `services` by service and method name; ValueError when two serve the same route."""
    routes: dict[str, dict[str, Handler]] = {}
    for route, handler in (item for service in services for item in service.__mapping__().items()):
        service_name, _, method = route.removeprefix("/").rpartition("/")
        if routes.setdefault(service_name, {}).setdefault(method, handler) is not handler:
            raise ValueError(f"{route} is served twice")
    return routes


class CallStarted(NamedTuple):
    """A client has called a method that there is. `receiving`: it may go on to send messages."""

    stream_id: int
    handler: Any
    request: Request
    receiving: bool


class MessageReceived(NamedTuple):
    """The client has sent a message (None: none in this frame), perhaps its last."""

    stream_id: int
    payload: bytes | None
    ended: bool


class CallAborted(NamedTuple):
    """The client broke the protocol on this stream; it has been answered, so the handler's work is in vain."""

    stream_id: int


ServerEvent = CallStarted | MessageReceived | CallAborted


class ServerStreams:
    """All streams of a connection, from the server's side.

    A stream opens with `CallStarted` and ends with `respond`, `end` or `fail`, or by itself with `CallAborted`.
    """

    def __init__(self, routes: Routes, streams_max: int = STREAMS_MAX) -> None:
        self._routes = routes
        self._streams_max = streams_max
        self._parser = FrameParser()
        self._last_id = 0
        #: The open streams, and whether the client may still send on each.
        self._receiving: dict[int, bool] = {}
        self._answers: list[bytes] = []
        #: Set when the server is about to stop: new calls are refused.
        self.draining = False

    def __contains__(self, stream_id: int) -> bool:
        """Whether the stream is open, so that an answer to it is possible and due."""
        return stream_id in self._receiving

    def receive_data(self, data: bytes) -> list[ServerEvent]:
        """Take bytes from the client; return what they mean. `take_answers` then has the protocol's own answers."""
        events = []
        for frame in self._parser.feed(data):
            event = self._on_frame(frame)
            if event is not None:
                events.append(event)
        return events

    def take_answers(self) -> bytes:
        """Return (once) the answers to malformed, refused and unknown requests, for sending."""
        if not self._answers:
            return b""
        answers = b"".join(self._answers)
        self._answers.clear()
        return answers

    def respond(self, stream_id: int, payload: bytes) -> bytes:
        """Return the frame that ends a stream with its only message.

        Raises OversizedMessageError (the stream stays open) and StreamClosedError.
        """
        body = encode_response(payload)
        self._check(stream_id, body)
        del self._receiving[stream_id]
        return encode_frame(stream_id, RESPONSE, 0, body)

    def respond_head(self, stream_id: int, head: bytes, size: int) -> bytes:
        """As `respond` for a message of which only the `head` is given: all of the frame but its last `size` bytes."""
        body = response_head(len(head) + size) + head
        if len(body) + size > MESSAGE_MAX:
            raise OversizedMessageError(len(body) + size)
        self._check(stream_id, b"")
        del self._receiving[stream_id]
        return HEADER.pack(len(body) + size, stream_id, RESPONSE, 0) + body

    def send(self, stream_id: int, payload: bytes) -> bytes:
        """Return the frame of one message of many; raises as `respond` does."""
        self._check(stream_id, payload)
        return encode_frame(stream_id, DATA, 0, payload)

    def end(self, stream_id: int) -> bytes:
        """Return the frame that ends a stream of messages with success; raises StreamClosedError."""
        self._check(stream_id, b"")
        del self._receiving[stream_id]
        return encode_frame(stream_id, DATA, REMOTE_CLOSED | NO_DATA, b"")

    def fail(self, stream_id: int, status: RpcStatus) -> bytes:
        """Return the frame that ends a stream with an error; raises StreamClosedError."""
        self._check(stream_id, b"")
        del self._receiving[stream_id]
        return _error_frame(stream_id, status)

    def abandon(self) -> None:
        """Forget all streams: there is nobody to answer any more."""
        self._receiving.clear()

    def _check(self, stream_id: int, body: bytes) -> None:
        """Raise unless `body` may be sent on the stream."""
        if stream_id not in self._receiving:
            raise StreamClosedError(f"stream {stream_id} has been answered")
        if len(body) > MESSAGE_MAX:
            raise OversizedMessageError(len(body))

    def _on_frame(self, frame: Frame | Oversized) -> ServerEvent | None:
        stream_id, frame_type = frame[:2]
        if isinstance(frame, Oversized):
            return self._reject(stream_id, Status.RESOURCE_EXHAUSTED, str(OversizedMessageError(frame.length)))
        if frame_type not in (REQUEST, DATA):
            # PROTOCOL.md: types to come must not break a server of today.
            return None
        if stream_id % 2 == 0:
            text = "StreamID must be odd for client initiated streams"
            return self._reject(stream_id, Status.INVALID_ARGUMENT, text)
        return self._on_request(frame) if frame_type == REQUEST else self._on_data(frame)

    def _on_request(self, frame: Frame) -> ServerEvent | None:
        stream_id = frame.stream_id
        if stream_id <= self._last_id:
            self._answer(stream_id, Status.INVALID_ARGUMENT, "StreamID cannot be re-used and must increment")
            return None
        self._last_id = stream_id
        try:
            request = decode_request(frame.payload)
        except DecodeError as exc:
            return self._reject(stream_id, Status.INVALID_ARGUMENT, f"unmarshal request error: {exc}")
        handler = self._find(stream_id, request)
        if handler is None:
            return None
        receiving = handler.cardinality.client_streaming and not frame.flags & REMOTE_CLOSED
        self._receiving[stream_id] = receiving
        return CallStarted(stream_id, handler, request, receiving)

    def _find(self, stream_id: int, request: Request) -> Any:
        """Return the handler for `request`, or answer why there is none."""
        methods = self._routes.get(request.service)
        if methods is None:
            return self._answer(stream_id, Status.UNIMPLEMENTED, f"service {request.service}")
        handler = methods.get(request.method)
        if handler is None:
            return self._answer(stream_id, Status.UNIMPLEMENTED, f"method {request.method}")
        if self.draining:
            return self._answer(stream_id, Status.UNAVAILABLE, "ttrpc: the server is closing")
        if len(self._receiving) >= self._streams_max:
            text = f"{self._streams_max} calls are open on this connection"
            return self._answer(stream_id, Status.RESOURCE_EXHAUSTED, text)
        return handler

    def _on_data(self, frame: Frame) -> ServerEvent | None:
        stream_id, _, flags, payload = frame
        receiving = self._receiving.get(stream_id)
        if receiving is None:
            return self._reject(stream_id, Status.INVALID_ARGUMENT, "StreamID is no longer active")
        ended = bool(flags & REMOTE_CLOSED)
        message = None if flags & NO_DATA and not payload else payload
        if not receiving:
            if message is None:
                return None
            text = "data handling error: the client has closed the stream"
            return self._reject(stream_id, Status.INVALID_ARGUMENT, text)
        self._receiving[stream_id] = not ended
        return MessageReceived(stream_id, message, ended)

    def _reject(self, stream_id: int, code: Status, text: str) -> CallAborted | None:
        """Answer with an error, which ends the stream if it was open."""
        self._answer(stream_id, code, text)
        return CallAborted(stream_id) if self._receiving.pop(stream_id, None) is not None else None

    def _answer(self, stream_id: int, code: Status, text: str) -> None:
        self._answers.append(_error_frame(stream_id, rpc_status(code, text)))


def _error_frame(stream_id: int, status: RpcStatus) -> bytes:
    """Return the response frame for `status`; its details are dropped when they would not fit."""
    body = encode_error(status)
    if len(body) > MESSAGE_MAX:
        body = encode_error(status._replace(details=()))
    return encode_frame(stream_id, RESPONSE, 0, body)
