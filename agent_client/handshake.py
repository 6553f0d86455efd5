"""What is said on a fresh stream before ttrpc. Sans-I/O: a greeting to send, then bytes in until it is done.

Virtio-serial (this runtime's own; the port is `kata.agent.0`): the client sends 16 NUL bytes and
`KATA-AGENT 1 <32 hex digits>\\n`, the agent discards its input up to that line and answers `OK <the same digits>\\n`.
A port keeps what an earlier session left in it, in both directions: so the client too discards what comes before the
answer to its own number, up to a limit.

Hybrid vsock (as Firecracker and Cloud Hypervisor have it): the client sends `CONNECT <port>\\n`, the VMM answers
`OK <number>\\n` and joins the stream to the guest's port.

After either the client speaks first: a byte that follows the answer unasked is a fault.
"""

from __future__ import annotations

import os
import re
from typing import Protocol

#: Leftovers of an earlier session: at most what its replies in flight can be. More is a guest that floods the port.
MAX_DISCARDED = 16 * 1024 * 1024
#: `OK `, a 32 bit number and a line feed fit well; more is not an answer.
_LONGEST_ANSWER = 32
#: Ends whatever line an earlier session broke off in.
_PADDING = bytes(16)


class HandshakeError(Exception):
    """The other side does not keep to the handshake; the text says in what, on one line."""


class Handshake(Protocol):
    """One handshake, for one stream."""

    @property
    def greeting(self) -> bytes:
        """What the client sends at once."""

    @property
    def waiting(self) -> str:
        """In words, what has been seen so far, for the error of a deadline."""

    def feed(self, data: bytes) -> bool:
        """Take what arrived; return whether the handshake is done. Raises `HandshakeError`."""


class SerialHandshake:
    """Ours, for a virtio-serial port. The number keeps an answer to an earlier session from passing for this one's."""

    def __init__(self, nonce: str | None = None) -> None:
        self._nonce = nonce or os.urandom(16).hex()
        self._answer = f"OK {self._nonce}\n".encode()
        self._tail = b""
        self._discarded = 0

    @property
    def greeting(self) -> bytes:
        """The padding and the line."""
        return _PADDING + f"KATA-AGENT 1 {self._nonce}\n".encode()

    @property
    def waiting(self) -> str:
        """What has been seen so far."""
        if not self._discarded:
            return "nothing came from the guest's port, so no agent has opened it"
        return f"no OK came from the guest's port, only {self._discarded} bytes of something else"

    def feed(self, data: bytes) -> bool:
        """Look for the answer, also across two reads; what is before it is dropped."""
        seen = self._tail + data
        before, answer, after = seen.partition(self._answer)
        if answer:
            return _nothing_follows(after)
        self._discarded += len(data)
        if self._discarded > MAX_DISCARDED:
            raise HandshakeError(f"more than {MAX_DISCARDED} bytes came before the agent's OK")
        self._tail = before[-len(self._answer) + 1 :]
        return False


class HybridHandshake:
    """`CONNECT`, for hybrid vsock."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._seen = b""

    @property
    def greeting(self) -> bytes:
        """The line."""
        return f"CONNECT {self._port}\n".encode()

    @property
    def waiting(self) -> str:
        """What has been seen so far."""
        return f"the VMM did not answer CONNECT {self._port}"

    def feed(self, data: bytes) -> bool:
        """Collect one line and check it."""
        self._seen += data
        line, end, after = self._seen.partition(b"\n")
        if len(line) > _LONGEST_ANSWER or (end and not re.fullmatch(rb"OK [0-9]+", line)):
            raise HandshakeError(f"the VMM answered CONNECT {self._port} with {line[:_LONGEST_ANSWER]!r}")
        return bool(end) and _nothing_follows(after)


def _nothing_follows(data: bytes) -> bool:
    if data:
        raise HandshakeError(f"{len(data)} bytes came after the handshake, before anything was asked")
    return True
