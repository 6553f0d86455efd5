"""The client's table of the streams on one connection. Sans-I/O: calls in, bytes to send; bytes in, events out."""

from __future__ import annotations

from typing import NamedTuple

from grpclib.const import Cardinality, Status

from ttrpc.codec import DecodeError
from ttrpc.envelope import RpcStatus, decode_response
from ttrpc.errors import OversizedMessageError, StreamClosedError, rpc_status
from ttrpc.frame import (
    DATA,
    MESSAGE_MAX,
    NO_DATA,
    REMOTE_CLOSED,
    REMOTE_OPEN,
    REQUEST,
    RESPONSE,
    Frame,
    FrameParser,
    Oversized,
    encode_frame,
)

_STREAM_ID_MAX = (1 << 32) - 1


class Received(NamedTuple):
    """What came for a stream: perhaps a message, perhaps its end, and with the end perhaps an error."""

    stream_id: int
    payload: bytes | None
    ended: bool
    error: RpcStatus | None


class ClientStreams:
    """All streams of a connection, from the client's side.

    A stream opens with `open` and ends with an event whose `ended` is true, or with `forget`. ttrpc has no frame to
    cancel a call: what still comes for a forgotten stream is ignored.
    """

    def __init__(self, first_id: int = 1) -> None:
        self._parser = FrameParser()
        self._next_id = first_id
        #: The open streams, and whether the server may send several messages on each.
        self._streaming: dict[int, bool] = {}
        #: The largest response frame that is looked at, for those open streams that have a limit of their own.
        self._response_max: dict[int, int] = {}

    def __contains__(self, stream_id: int) -> bool:
        """Whether the stream has not yet ended."""
        return stream_id in self._streaming

    @property
    def mid_frame(self) -> bool:
        """Whether the connection would break off inside a frame if it ended now."""
        return self._parser.mid_frame

    def open(self, cardinality: Cardinality, request: bytes, response_max: int = MESSAGE_MAX) -> tuple[int, bytes]:
        """Return the id of a new stream and the frame of its encoded request. The frames must be sent in this order.

        A response frame with more than `response_max` bytes ends the stream with an error, and is not decoded.
        Raises OversizedMessageError, and StreamClosedError when the connection has used up its ids.
        """
        if len(request) > MESSAGE_MAX:
            raise OversizedMessageError(len(request))
        stream_id = self._next_id
        if stream_id > _STREAM_ID_MAX:
            raise StreamClosedError("the connection has used all its stream ids")
        client_streaming, server_streaming = cardinality.value
        self._next_id += 2
        self._streaming[stream_id] = server_streaming
        if response_max < MESSAGE_MAX:
            self._response_max[stream_id] = response_max
        flags = REMOTE_OPEN if client_streaming else REMOTE_CLOSED if server_streaming else 0
        return stream_id, encode_frame(stream_id, REQUEST, flags, request)

    def send(self, stream_id: int, payload: bytes) -> bytes:
        """Return the frame of one message of many; raises OversizedMessageError."""
        if len(payload) > MESSAGE_MAX:
            raise OversizedMessageError(len(payload))
        return encode_frame(stream_id, DATA, 0, payload)

    def end(self, stream_id: int) -> bytes:
        """Return the frame that says that no more messages follow. Go servers want it apart from the last message."""
        return encode_frame(stream_id, DATA, REMOTE_CLOSED | NO_DATA, b"")

    def forget(self, stream_id: int) -> None:
        """Give up a stream; nothing happens if it has ended."""
        self._streaming.pop(stream_id, None)
        self._response_max.pop(stream_id, None)

    def receive_data(self, data: bytes) -> list[Received]:
        """Take bytes from the server; return what they mean for open streams."""
        events = []
        for frame in self._parser.feed(data):
            if frame.stream_id in self._streaming:
                event = self._on_frame(frame)
                if event is not None:
                    events.append(event)
        return events

    def _on_frame(self, frame: Frame | Oversized) -> Received | None:
        if isinstance(frame, Oversized):
            text = str(OversizedMessageError(frame.length))
            return self._end(frame.stream_id, None, rpc_status(Status.RESOURCE_EXHAUSTED, text))
        if frame.type == RESPONSE:
            return self._on_response(frame)
        return self._on_data(frame) if frame.type == DATA else None

    def _on_response(self, frame: Frame) -> Received:
        stream_id = frame.stream_id
        limit = self._response_max.get(stream_id, MESSAGE_MAX)
        if len(frame.payload) > limit:
            text = f"ttrpc: a response of {len(frame.payload)} bytes where at most {limit} are expected"
            return self._end(stream_id, None, rpc_status(Status.RESOURCE_EXHAUSTED, text))
        try:
            status, payload = decode_response(frame.payload)
        except DecodeError as exc:
            return self._fault(stream_id, f"ttrpc: error unmarshalling response: {exc}")
        if status is not None and status.code:
            return self._end(stream_id, None, status)
        # A stream of messages may end with a response; only a payload makes that a message as well.
        return self._end(stream_id, None if self._streaming[stream_id] and not payload else payload, None)

    def _on_data(self, frame: Frame) -> Received:
        stream_id, _, flags, payload = frame
        if not self._streaming[stream_id]:
            return self._fault(stream_id, "ttrpc: the server sent data on a call that has a single response")
        message = None if flags & NO_DATA and not payload else payload
        if flags & REMOTE_CLOSED:
            return self._end(stream_id, message, None)
        return Received(stream_id, message, ended=False, error=None)

    def _fault(self, stream_id: int, text: str) -> Received:
        """End a stream on which the server broke the protocol."""
        return self._end(stream_id, None, rpc_status(Status.INTERNAL, text))

    def _end(self, stream_id: int, payload: bytes | None, error: RpcStatus | None) -> Received:
        self.forget(stream_id)
        return Received(stream_id, payload, ended=True, error=error)
