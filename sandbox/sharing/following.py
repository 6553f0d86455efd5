"""Brings the changes of copied volumes to the guest, as long as the pod lives."""

from __future__ import annotations

import logging

import anyio

from agent_client.errors import AgentError
from sandbox.errors import SandboxError
from sandbox.sharing.inotify import Bell
from sandbox.sharing.share import Guest
from sandbox.sharing.versioned import VersionedVolume

#: Seconds between two looks where inotify can't be had, and after a change that could not be brought over.
POLL = 1.0

_log = logging.getLogger(__name__)


class Follower:
    """The volumes to follow, by container. `add` and `remove` at any time; `run` once; `close` ends it."""

    def __init__(self) -> None:
        self._volumes: dict[str, list[VersionedVolume]] = {}
        self._bell: Bell | None = None
        self._polls = False
        self._added = anyio.Event()
        self._scope = anyio.CancelScope()
        self._is_running = False

    def add(self, container_id: str, volume: VersionedVolume) -> None:
        """Follow a volume; do so before it is sent first, so that no change is missed."""
        self._volumes.setdefault(container_id, []).append(volume)
        try:
            self._bell = self._bell or Bell()
            self._bell.watch(volume.source)
        except OSError as error:
            _log.warning("inotify for %s: %s; its changes are looked for every %g s", volume.source, error, POLL)
            self._polls = True
        self._added.set()

    def remove(self, container_id: str) -> None:
        """Follow a container's volumes no longer."""
        self._volumes.pop(container_id, None)

    async def run(self, guest: Guest) -> None:
        """Return when closed."""
        self._is_running = True
        failed = False
        try:
            with self._scope:
                await self._added.wait()
                while True:
                    with anyio.move_on_after(POLL if failed or self._polls else None):
                        await self._rung()
                    failed = not await self._send_changed(guest)
        finally:
            self._is_running = False
            self._close_bell()

    async def _rung(self) -> None:
        if self._bell is None:
            await anyio.sleep_forever()
        else:
            await self._bell.rung()

    async def _send_changed(self, guest: Guest) -> bool:
        """Send what has changed; whether all of it arrived."""
        arrived = True
        for volume in [volume for volumes in self._volumes.values() for volume in volumes]:
            if not volume.has_changed():
                continue
            try:
                await volume.send(guest)
            except (AgentError, SandboxError) as error:
                _log.warning("the change of %s did not reach the guest yet: %s", volume.source, error)
                arrived = False
            else:
                _log.info("the change of %s is in the guest", volume.source)
        return arrived

    def close(self) -> None:
        """Follow nothing any more; idempotent."""
        self._volumes.clear()
        self._scope.cancel()
        if not self._is_running:
            self._close_bell()

    def _close_bell(self) -> None:
        if self._bell is not None:
            self._bell.close()
            self._bell = None
