"""An asyncio transport over any file descriptor that can be polled, such as a virtio-serial port or a vsock.

asyncio's own transports take sockets and pipes only, and those of uvloop fewer still. This one needs nothing but
`add_reader` and `add_writer`, so it is the same on both.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

from ttrpc.piped import read_pipe

_READ_BYTES = 64 * 1024
#: A read of this much may have left more, up to so many reads in a row.
_PAGE = 4096
_READS_MAX = 64
_HIGH_WATER = 64 * 1024


class FdTransport(asyncio.Transport):
    """Reads and writes a file descriptor, which it owns and closes.

    Life: made with a protocol, whose `connection_made` is called soon after; `connection_lost` is called once, with
    None after an end of file or a close, else with the error. An end of file closes the transport.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        protocol: asyncio.Protocol,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(dict(extra or {}))
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._protocol = protocol
        self._buffer: deque[memoryview[Any]] = deque()
        self._size = 0
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        self._protocol_paused = False
        self._reading = False
        self._closing = False
        self._lost = False
        loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._protocol.connection_made(self)
        if not self._closing:
            self.resume_reading()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what comes from now on to another protocol."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def is_closing(self) -> bool:
        """Whether the transport is closed or about to be."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether what arrives is delivered now."""
        return self._reading

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`. Idempotent."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Deliver what arrives. Idempotent; nothing happens on a closing transport."""
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._fd, self._read_ready)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send `data`, or as much as the descriptor takes now and the rest as it takes more."""
        if self._closing or not data:
            return
        waiting = bool(self._buffer)
        # A view of what can't change; the rest of a large message is not moved each time the descriptor takes a part.
        self._buffer.append(memoryview(data if isinstance(data, bytes) else bytes(data)))
        self._size += len(data)
        if not waiting and (not self._flush() or not self._buffer):
            return
        if not waiting:
            self._loop.add_writer(self._fd, self._write_ready)
        if self._size > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def write_piped(self, head: bytes, fd: int, size: int) -> None:
        """Send `head` and then `size` bytes that are in the pipe `fd`, without copying them where the kernel can.

        It moves a pipe's pages to a virtio-serial port (splice(2)). What that does not take now is copied.
        """
        self.write(head)
        while size and not self._buffer and not self._closing:
            try:
                moved = os.splice(fd, self._fd, size)
            except OSError:
                # It is full, or takes no pages; copying shows any other reason again.
                break
            if not moved:
                break
            size -= moved
        if not size or self._closing:
            return
        rest = read_pipe(fd, size)
        if len(rest) == size:
            self.write(rest)
        else:
            # The peer has been promised more than there is.
            self._fail(OSError(errno.EIO, "the pipe has lost what was to be sent"))

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the sizes, low and high, at which the protocol is told to go on and to pause."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set those sizes in bytes; by default 64 KiB, and a quarter of `high`."""
        self._high = _HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low
        if not 0 <= self._low <= self._high:
            raise ValueError(f"low {self._low} must be from 0 to high {self._high}")

    def can_write_eof(self) -> bool:
        """Return False: a character device has no half-close."""
        return False

    def close(self) -> None:
        """Read no more, send what is buffered, then let go of the descriptor. Idempotent."""
        if not self._closing:
            self.pause_reading()
            self._closing = True
            if not self._buffer:
                self._end(None)

    def abort(self) -> None:
        """Let go of the descriptor and of what is buffered. Idempotent."""
        self._fail(None)

    def _read_ready(self) -> None:
        pieces: list[bytes] = []
        fault: OSError | None = None
        ended = False
        # A virtio-serial port gives a page at a time, and each turn of the loop costs more than that.
        for _ in range(_READS_MAX):
            try:
                data = os.read(self._fd, _READ_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as exc:
                fault = exc
                break
            pieces.append(data)
            ended = not data
            if len(data) < _PAGE:
                break
        if received := b"".join(pieces):
            self._protocol.data_received(received)
        if self._closing:
            return
        if fault is not None:
            self._fail(fault)
        elif ended:
            self._protocol.eof_received()
            self.close()

    def _write_ready(self) -> None:
        if not self._flush():
            return
        if not self._buffer:
            self._loop.remove_writer(self._fd)
            if self._closing:
                self._end(None)
                return
        if self._protocol_paused and self._size <= self._low:
            self._protocol_paused = False
            self._protocol.resume_writing()

    def _flush(self) -> bool:
        """Send what the descriptor takes now; False if it failed, and the transport with it."""
        while self._buffer:
            try:
                sent = os.write(self._fd, self._buffer[0])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as exc:
                self._fail(exc)
                return False
            self._size -= sent
            if sent == len(self._buffer[0]):
                self._buffer.popleft()
            else:
                self._buffer[0] = self._buffer[0][sent:]
        return True

    def _fail(self, exc: OSError | None) -> None:
        self.pause_reading()
        self._closing = True
        if self._buffer:
            self._buffer.clear()
            self._size = 0
            self._loop.remove_writer(self._fd)
        self._end(exc)

    def _end(self, exc: OSError | None) -> None:
        """Release the descriptor now, so that its number can't be reused under a watcher, and say so soon."""
        if not self._lost:
            self._lost = True
            os.close(self._fd)
            self._loop.call_soon(self._protocol.connection_lost, exc)
