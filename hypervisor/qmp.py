"""A QMP session with one QEMU: qemu.qmp with deadlines, one-line errors, and an end that is never an exception.

Protocol: QEMU's "QMP Reference Manual" and docs/interop/qmp-spec. QEMU greets, we negotiate capabilities, then
commands may overlap, and events come in between.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.message import Message

from hypervisor.errors import QmpError

#: Seconds a command may take unless its caller knows better.
COMMAND_TIMEOUT = 5.0
#: Seconds for the last messages of a QEMU that has ended.
CLOSE_TIMEOUT = 1.0
#: Events kept; the last ones tell the cause of an end.
EVENTS_KEPT = 64

_silent = logging.getLogger("hypervisor.qmp.wire")
_silent.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class QmpEvent:
    """One event: its name in capitals, and its data as QEMU gave it."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)


class _Client(QMPClient):
    """QMPClient that records events, and neither formats messages nor logs errors it also raises."""

    logger = _silent

    def __init__(self, events: deque[QmpEvent]) -> None:
        super().__init__()
        self.logger = _silent
        self._recorded = events

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        if "event" in msg:
            data = msg.get("data")
            self._recorded.append(QmpEvent(str(msg["event"]), data if isinstance(data, dict) else {}))
        return msg


class QmpSession:
    """A negotiated session. Ends with `close()`, which must be called once QEMU is gone too."""

    def __init__(self, client: QMPClient, events: deque[QmpEvent], sock: socket.socket) -> None:
        """`sock` is the client's own, here for what goes beside its stream: descriptors."""
        self._client = client
        self._sock = sock
        self._closing = asyncio.Lock()
        #: The last events, oldest first.
        self.events = events

    @classmethod
    async def over_socket(cls, sock: socket.socket, timeout: float) -> QmpSession:
        """Greet and negotiate on a connected socket, which is the session's from now on, within `timeout` seconds.

        Raises ConnectionError when QEMU hung up (it has died: its exit says why), QmpError for anything else.
        """
        events: deque[QmpEvent] = deque(maxlen=EVENTS_KEPT)
        session = cls(_Client(events), events, sock.dup())
        try:
            await session._negotiate(sock, timeout)
        except BaseException:
            await session.close()
            sock.close()
            raise
        return session

    async def _negotiate(self, sock: socket.socket, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._client.connect(sock)
        except TimeoutError as error:
            raise QmpError(f"QEMU did not answer on its monitor within {timeout:g} s") from error
        except ConnectError as error:
            if isinstance(error.exc, EOFError | OSError):
                raise ConnectionError("QEMU hung up its monitor") from error
            raise QmpError(f"no QMP session: {error}") from error

    @property
    def connected(self) -> bool:
        """Whether QEMU is still there to answer."""
        return self._client.runstate is Runstate.RUNNING

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout: float = COMMAND_TIMEOUT
    ) -> Any:
        """Run `command`, return its value. Raises QmpError with QEMU's description, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._client.execute(command, arguments)
        except TimeoutError as error:
            raise QmpError(f"QMP {command}: no answer within {timeout:g} s") from error
        except ExecuteError as error:
            raise QmpError(f"QMP {command}: {error.error_class}: {error}") from error
        except QMPError as error:
            raise QmpError(f"QMP {command}: {error or type(error).__name__}") from error

    @contextmanager
    def listening(self, *names: str) -> Iterator[QmpEvents]:
        """Listen for events of these names while inside: none that comes meanwhile is missed."""
        with self._client.listener(names) as listener:
            yield QmpEvents(self, listener)

    async def send_descriptor(self, fd: int) -> None:
        """Send `fd` for the next command (`getfd`) to take up; raises QmpError."""
        try:
            socket.send_fds(self._sock, [b" "], [fd])
        except OSError as error:
            raise QmpError(f"QMP: a descriptor can't be sent: {error.strerror}") from error

    async def closed(self) -> None:
        """Return when QEMU has hung up."""
        while self.connected:
            await self._client.runstate_changed()

    async def close(self) -> None:
        """End the session now; never raises, idempotent. See `drain`."""
        self._sock.close()
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            async with self._closing:
                try:
                    if self._client.runstate is not Runstate.IDLE:
                        await self._client.disconnect()
                except (QMPError, EOFError, OSError):
                    # How the stream ended is no news: the process' exit says why.
                    pass

    async def drain(self) -> None:
        """Read until QEMU hangs up, at most `CLOSE_TIMEOUT` seconds: the events before its end are then in `events`."""
        with anyio.move_on_after(CLOSE_TIMEOUT):
            await self.closed()


class QmpEvents:
    """The events that one listener has heard, in their order."""

    def __init__(self, session: QmpSession, listener: EventListener) -> None:
        self._session = session
        self._listener = listener

    async def get(self) -> tuple[str, Mapping[str, Any]]:
        """The next event's name and data; raises QmpError when QEMU hangs up before there is one."""
        heard: list[Message] = []

        async def hear(scope: anyio.CancelScope) -> None:
            heard.append(await self._listener.get())
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(hear, group.cancel_scope)
            await self._session.closed()
            group.cancel_scope.cancel()
        if not heard:
            raise QmpError("QEMU hung up its monitor")
        data = heard[0].get("data")
        return str(heard[0]["event"]), data if isinstance(data, dict) else {}
