"""The server: one process, one thread, no event loop, so that it may fork at any time.

It serves those of its own user and namespaces, one after the other, and leaves when its code has changed on disk, or
when it has had no daemon for `LINGER` seconds: a node without pods has no process of ours. The daemon that was started
before there was a server counts among its own, or a node whose pods come one by one would never have one.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from shim.forkserver import client

#: Seconds without a daemon after which the server leaves.
LINGER = 1.0
#: Seconds for a client to say what it wants.
PATIENCE = 1.0
#: Seconds for it to take the daemon. One that gives up hangs up; ending before it does could leave it with a dead pid.
TAKE_TIMEOUT = 30.0
#: Bytes of a request: the kernel's own limit for arguments and environment is of this order.
MAX_REQUEST = 4 << 20

_FDS = 3
_BACKLOG = 64


@dataclass(frozen=True)
class Request:
    """What a `start` asks for. Descriptors are this process' own; `pid` is that of the one who asks."""

    pid: int
    arguments: list[str]
    environment: dict[str, str]
    listener: int
    log: int
    bundle: int


class RequestError(Exception):
    """A request that is not served; who asked does without."""


def claim() -> socket.socket | None:
    """The server's socket, which listens to nobody yet; None if another server has it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(client.address())
    except OSError:
        listener.close()
        return None
    return listener


class ForkServer:
    """From a claimed socket to the last daemon's end.

    `serves` says whether a daemon may be forked for a pid, `is_current` whether one may be forked at all; `prepare`
    does, in the child, what may fail.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        serves: Callable[[int], bool],
        is_current: Callable[[], bool],
        prepare: Callable[[Request], None],
    ) -> None:
        self._listener = listener
        self._serves = serves
        self._is_current = is_current
        self._prepare = prepare
        #: Pids by descriptors; 0 for a daemon that is not our child.
        self._daemons: dict[int, int] = {}
        self._idle_since = time.monotonic()

    def adopt(self, pid: int) -> None:
        """Stay for as long as process `pid` lives, too; nothing happens if it is gone."""
        try:
            self._daemons[os.pidfd_open(pid)] = 0
        except OSError:
            return

    def run(self) -> Request | None:
        """Serve. Returns once in every daemon that is forked, with its request, and once in the server: None."""
        self._listener.listen(_BACKLOG)
        while self._daemons or time.monotonic() < self._idle_since + LINGER:
            for fd in self._ready():
                if fd != self._listener.fileno():
                    self._reap(fd)
                    continue
                if not self._is_current():
                    return None
                request = self._serve()
                if request is not None:
                    return request
        return None

    def _ready(self) -> list[int]:
        poll = select.poll()
        for fd in (self._listener.fileno(), *self._daemons):
            poll.register(fd, select.POLLIN)
        return [fd for fd, _ in poll.poll(None if self._daemons else LINGER * 1000)]

    def _reap(self, pidfd: int) -> None:
        if pid := self._daemons.pop(pidfd):
            os.waitpid(pid, 0)
        os.close(pidfd)
        self._idle_since = time.monotonic()

    def _serve(self) -> Request | None:
        """Serve one client; returns the request in the daemon that it gets."""
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        with connection:
            try:
                request = self._receive(connection)
            except (OSError, RequestError):
                return None
            try:
                pid = os.fork()
                if pid == 0:
                    self._answer(connection, request)
                    return request
                self._daemons[os.pidfd_open(pid)] = pid
            except OSError:
                # No room for a further process: the client, which is hung up on, will say so if it has none either.
                pass
        for fd in (request.listener, request.log, request.bundle):
            os.close(fd)
        return None

    def _receive(self, connection: socket.socket) -> Request:
        pid, user = client.peer(connection)
        if user != os.getuid() or not self._serves(pid):
            raise RequestError("the client is of another user or namespace")
        data, fds, _, _ = socket.recv_fds(connection, 1 << 16, _FDS)
        try:
            if len(fds) != _FDS:
                raise RequestError(f"{len(fds)} descriptors came with a request, not {_FDS}")
            arguments, environment = parse(_rest(connection, data))
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return Request(pid, arguments, environment, *fds)

    def _answer(self, connection: socket.socket, request: Request) -> None:
        """In the child: ready itself, answer, and have the client's word that it has arrived; else the process ends."""
        try:
            connection.settimeout(TAKE_TIMEOUT)
            self._prepare(request)
            connection.sendall(os.getpid().to_bytes(4, "big"))
            taken = connection.recv(1)
        except (OSError, ValueError):
            taken = b""
        if not taken:
            os._exit(1)
        self._listener.close()


def _rest(connection: socket.socket, data: bytes) -> bytes:
    """The body of the request that begins with `data`."""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        if len(data) >= 4 and int.from_bytes(data[:4], "big") > MAX_REQUEST:
            raise RequestError("a request is too large")
        more = connection.recv(1 << 16)
        if not more:
            raise RequestError("a request is cut off")
        data += more
    return data[4 : 4 + int.from_bytes(data[:4], "big")]


def parse(body: bytes) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of a request (see `client`); raises `RequestError`."""
    words = [os.fsdecode(word) for word in body.split(b"\0")]
    if "" not in words[:-1] or words[-1]:
        raise RequestError("a request without an end")
    middle = words.index("")
    variables = [word.partition("=") for word in words[middle + 1 : -1]]
    if not middle or not all(separator for _, separator, _ in variables):
        raise RequestError("a request without arguments, or with a variable that has no value")
    return words[:middle], {name: value for name, _, value in variables}
