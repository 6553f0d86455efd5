"""The way in over a virtio-serial port: the port found, a host waited for, sessions told apart.

The port is a character device of the kernel's virtio_console; without a host at the other end it reports a hang-up for
ever, so waiting for one is edge-triggered (`host_present`). See `preamble` for the handshake.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

from guest.agent.log import log
from guest.agent.preamble import (
    LENGTH,
    FrameTracker,
    PreambleScanner,
    answer,
    ends_with_preamble,
)
from ttrpc.fdtransport import FdTransport

PORT_NAME = "kata.agent.0"
#: How long an unfinished frame may stay silent behind a preamble before that is taken for a new host's.
STALL_SECONDS = 1.0
GONE_CHECK_SECONDS = 0.2
_POLL_SECONDS = 0.02
_POLL_LIMIT = 1.0
_RETRY_SECONDS = 0.5

#: Makes the protocol of one session; see `ttrpc.server.Server.protocol`.
MakeSession = Callable[[], asyncio.Protocol]


class SerialProtocol(asyncio.Protocol):
    """One opening of the port: discards input up to a preamble, answers it, and hands the rest to a session.

    Another preamble ends the session and begins the next on the same stream.
    """

    def __init__(self, make_session: MakeSession, is_gone: Callable[[], bool] = lambda: False) -> None:
        self._make_session = make_session
        self._is_gone = is_gone
        self._transport: asyncio.Transport | None = None
        self._session: asyncio.Protocol | None = None
        self._scanner = PreambleScanner()
        self._tracker = FrameTracker()
        self._tail = b""
        self._stall: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        #: Done when this side is through with the host.
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: What is wrong with the port itself, if it was that.
        self.fault: OSError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The port is open."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a port is read and written")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the host."""
        self._cancel_stall()
        if self._session is None:
            self._scan(data)
            return
        self._tail = (self._tail + data)[-LENGTH:]
        if not self._tracker.feed(data):
            self._restart()
            return
        if self._tracker.mid_payload and ends_with_preamble(self._tail):
            self._stall = asyncio.get_running_loop().call_later(STALL_SECONDS, self._restart)
        self._session.data_received(data)

    def eof_received(self) -> bool | None:
        """The host is gone. What is still to be sent has no taker, and must not keep the port from closing."""
        if self._transport is not None:
            self._transport.abort()
        return None

    def pause_writing(self) -> None:
        """The host does not read; while the session reads nothing either, only asking shows that the host is gone."""
        if self._session is not None:
            self._session.pause_writing()
        self._check_gone()

    def resume_writing(self) -> None:
        """The host reads again."""
        self._cancel_watch()
        if self._session is not None:
            self._session.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The host is gone, or the port is."""
        self.fault = exc if isinstance(exc, OSError) else None
        self._cancel_stall()
        self._cancel_watch()
        self._end_session(exc)
        if not self.closed.done():
            self.closed.set_result(None)

    def _scan(self, data: bytes) -> None:
        found = self._scanner.feed(data)
        if found is None or self._transport is None:
            return
        nonce, rest = found
        self._tracker, self._tail = FrameTracker(), b""
        self._transport.resume_reading()
        self._transport.write(answer(nonce))
        session = self._make_session()
        session.connection_made(self._transport)
        if self._transport.is_closing():
            session.connection_lost(None)
            return
        self._session = session
        log.info("a host has opened a session")
        if rest:
            self.data_received(rest)

    def _restart(self) -> None:
        """A new host has come unannounced: end the session, and look for its preamble in what has come so far."""
        self._cancel_stall()
        self._end_session(ConnectionResetError("another host has opened a session"))
        self._scanner = PreambleScanner()
        self._scan(self._tail)

    def _end_session(self, exc: Exception | None) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.connection_lost(exc)

    def _check_gone(self) -> None:
        if self._transport is not None and self._is_gone():
            self._transport.abort()
            return
        self._watch = asyncio.get_running_loop().call_later(GONE_CHECK_SECONDS, self._check_gone)

    def _cancel_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


async def serve(make_session: MakeSession, sys: str = "/sys", dev: str = "/dev") -> None:
    """Serve the port, one session after the other, for ever."""
    path = await find_port(sys, dev)
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                await serve_port(fd, make_session)
            finally:
                os.close(fd)
        except OSError as error:
            log.warning("%s: %s", path, error.strerror or error)
            await asyncio.sleep(_RETRY_SECONDS)


async def serve_port(fd: int, make_session: MakeSession) -> None:
    """Serve one host after the other on an open port; raises `OSError` when the port itself fails.

    The port stays open between two hosts: closing it discards what is in it, and that may be the preamble of the next
    host, who came before the going of the last one was noticed.
    """
    while True:
        await host_present(fd)
        protocol = SerialProtocol(make_session, lambda: is_gone(fd))
        transport = FdTransport(asyncio.get_running_loop(), os.dup(fd), protocol)
        try:
            await protocol.closed
        finally:
            transport.abort()
        if protocol.fault is not None:
            raise protocol.fault


async def find_port(sys: str, dev: str, name: str = PORT_NAME) -> str:
    """The device of the port, waiting until there is one; polled ever more rarely, for it comes at boot or never."""
    pause = _POLL_SECONDS
    while True:
        device = port_device(sys, name)
        if device and os.path.exists(f"{dev}/{device}"):
            return f"{dev}/{device}"
        await asyncio.sleep(pause)
        pause = min(2 * pause, _POLL_LIMIT)


def port_device(sys: str, name: str) -> str:
    """The device name (`vport1p1`) of the port, from sysfs, for no udev makes the link; empty if there is none."""
    directory = f"{sys}/class/virtio-ports"
    try:
        devices = sorted(os.listdir(directory))
    except OSError:
        return ""
    for device in devices:
        try:
            with open(f"{directory}/{device}/name", encoding="utf-8", errors="replace") as file:
                if file.read(256).strip() == name:
                    return device
        except OSError:
            continue
    return ""


async def host_present(fd: int) -> None:
    """Wait until somebody is at the other end of the port."""
    edges = select.epoll()
    loop = asyncio.get_running_loop()
    try:
        edges.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        while is_gone(fd):
            changed = loop.create_future()
            loop.add_reader(edges.fileno(), _take_edges, edges, changed)
            try:
                await changed
            finally:
                loop.remove_reader(edges.fileno())
    finally:
        edges.close()


def is_gone(fd: int) -> bool:
    """Whether nobody is at the other end of the port."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _take_edges(edges: select.epoll, changed: asyncio.Future[None]) -> None:
    edges.poll(0)
    if not changed.done():
        changed.set_result(None)
