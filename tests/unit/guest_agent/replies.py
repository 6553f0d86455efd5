"""Answers with output, in whichever form they came."""

from __future__ import annotations

from protos.lean.gen.grpc import ReadStreamResponse
from ttrpc.piped import PipedMessage


def body(reply: bytes | ReadStreamResponse | PipedMessage) -> bytes:
    """The output in an answer; what was in a pipe is taken out of it."""
    if isinstance(reply, PipedMessage):
        data = reply.read()
        assert len(data) == reply.size
        reply.close()
        return data
    return reply if isinstance(reply, bytes) else reply.data
