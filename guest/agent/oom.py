"""Out-of-memory kills: noticed through each container's memory.events, handed out by GetOOMEvent.

The kernel reports a change of that file as an exceptional condition (EPOLLPRI), which asyncio doesn't watch; so the
files sit in an epoll of their own, and asyncio watches that.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections import OrderedDict

from guest.agent.cgroup import flat_keyed
from guest.agent.errors import FailedPreconditionError
from guest.agent.log import log

MAX_PENDING = 1024


class _Watched:
    """One container's file and the kills seen so far."""

    __slots__ = ("container_id", "fd", "kills")

    def __init__(self, container_id: str, fd: int) -> None:
        self.container_id = container_id
        self.fd = fd
        self.kills = 0


class OomWatch:
    """Watches the cgroups of containers; `next_event` gives each kill's container to one caller."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, _Watched] = {}
        self._pending: OrderedDict[str, None] = OrderedDict()
        self._ended = False
        self._waiters: list[asyncio.Future[None]] = []
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_change)

    def watch(self, container_id: str, cgroup_path: str) -> None:
        """Begin to watch a container; a cgroup without a memory controller is not watched."""
        try:
            fd = os.open(f"{cgroup_path}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            log.info("container %s: no OOM events: %s", container_id, error.strerror)
            return
        watched = self._watched[fd] = _Watched(container_id, fd)
        watched.kills = _kills(fd)
        try:
            self._epoll.register(fd, select.EPOLLPRI)
        except OSError as error:
            # Only `check` sees kills then, at the container's end.
            log.warning("container %s: OOM events come late: %s", container_id, error.strerror)

    def check(self, container_id: str) -> None:
        """Look now, for an event that must come before the container's exit is reported."""
        for watched in self._watched.values():
            if watched.container_id == container_id:
                self._look(watched)

    def forget(self, container_id: str) -> None:
        """Stop watching a container; what it has pending is still handed out."""
        for fd in [fd for fd, watched in self._watched.items() if watched.container_id == container_id]:
            self._unregister(fd)
            del self._watched[fd]
            os.close(fd)

    async def next_event(self) -> str:
        """The id of a container in which the kernel has killed for want of memory; waits for one.

        Raises `FailedPreconditionError` when `end` says that there won't be any.
        """
        while not self._pending:
            if self._ended:
                raise FailedPreconditionError("the sandbox is gone")
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        return self._pending.popitem(last=False)[0]

    def end(self) -> None:
        """No more events will come: who waits is told so."""
        self._ended = True
        self._wake()

    def close(self) -> None:
        """Stop watching everything."""
        for fd in self._watched:
            os.close(fd)
        self._watched.clear()
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _on_change(self) -> None:
        for fd, _ in self._epoll.poll(0):
            watched = self._watched.get(fd)
            if watched is not None and not self._look(watched):
                # A cgroup that was removed reports an error for ever.
                self._unregister(fd)

    def _look(self, watched: _Watched) -> bool:
        """Note new kills; False if the cgroup is gone."""
        kills = _kills(watched.fd)
        if kills < 0:
            return False
        if kills > watched.kills:
            watched.kills = kills
            self._add(watched.container_id)
        return True

    def _add(self, container_id: str) -> None:
        if len(self._pending) >= MAX_PENDING:
            self._pending.popitem(last=False)
        self._pending[container_id] = None
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _unregister(self, fd: int) -> None:
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass


def _kills(fd: int) -> int:
    """The kernel's count in memory.events; reading it also acknowledges the change. -1 if the cgroup is gone."""
    try:
        return flat_keyed(os.pread(fd, 4096, 0).decode("ascii", "replace")).get("oom_kill", 0)
    except OSError:
        return -1
