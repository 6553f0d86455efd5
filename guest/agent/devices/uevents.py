"""Waiting for a device: woken by the kernel's uevents (NETLINK_KOBJECT_UEVENT), decided by what sysfs shows.

What a message says is not looked at, so a forged or a lost one does no harm: a wait looks again now and then anyway.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from guest.agent.errors import DeadlineError

T = TypeVar("T")

NETLINK_KOBJECT_UEVENT = 15
#: The multicast group of the kernel's own messages (2 is udev's).
_KERNEL_GROUP = 1
_MESSAGE_LIMIT = 1 << 16
#: Seconds after which a wait looks again without a message.
RECHECK_SECONDS = 0.5


class Uevents:
    """A socket on which uevents arrive; `with Uevents() as events`."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)

    def __enter__(self) -> Uevents:
        self._socket.bind((0, _KERNEL_GROUP))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def wait(self, timeout: float) -> None:
        """Return when something has happened, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_recv(self._socket, _MESSAGE_LIMIT)
            while self._socket.recv(_MESSAGE_LIMIT):
                pass
        except TimeoutError:
            return
        except OSError:
            # Nothing more to read, or more than the kernel could queue: both mean that it is time to look.
            return


async def appearance(
    look: Callable[[], T | None], what: str, timeout: float, kick: Callable[[], Awaitable[None]] | None = None
) -> T:
    """What `look` finds, as soon as it does; `kick` is done first if it isn't there yet.

    Raises `DeadlineError`, naming `what`, after `timeout` seconds.
    """
    found = look()
    if found is not None:
        return found
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    with Uevents() as events:
        if kick is not None:
            await kick()
        while (found := look()) is None:
            left = deadline - loop.time()
            if left <= 0:
                raise DeadlineError(f"{what} did not appear within {timeout:g} s")
            await events.wait(min(left, RECHECK_SECONDS))
    return found
