"""The QMP of one VM with the VM's own errors: a session that ends under a command is the VM's end, with its cause."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from hypervisor.errors import QmpError, VmGoneError
from hypervisor.hotplug.plug import Events
from hypervisor.qmp import COMMAND_TIMEOUT, QmpSession

if TYPE_CHECKING:
    from hypervisor.vm import VmExit


class VmMonitor:
    """`hypervisor.hotplug.plug.Monitor` over the session that `session` gives.

    `session` raises `IllegalStateError` before there is one, `VmGoneError` after the end; it gets what is wanted of it,
    for that error. `end` waits for the end of a VM that has hung up.
    """

    def __init__(self, session: Callable[[str], Awaitable[QmpSession]], end: Callable[[], Awaitable[VmExit]]) -> None:
        self._session = session
        self._end = end

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        """Run a command; see `Monitor.execute`."""
        async with self._guarded(command) as session:
            return await session.execute(command, arguments, COMMAND_TIMEOUT if timeout is None else timeout)

    @asynccontextmanager
    async def listening(self, *names: str) -> AsyncIterator[Events]:
        """Listen for events; see `Monitor.listening`."""
        async with self._guarded("events") as session:
            with session.listening(*names) as events:
                yield events

    async def send_descriptor(self, fd: int) -> None:
        """Send a descriptor; see `Monitor.send_descriptor`."""
        async with self._guarded("getfd") as session:
            await session.send_descriptor(fd)

    @asynccontextmanager
    async def _guarded(self, what: str) -> AsyncIterator[QmpSession]:
        session = await self._session(what)
        try:
            yield session
        except QmpError as error:
            if session.connected:
                raise
            raise VmGoneError((await self._end()).reason) from error
