"""Which storages are attached, and for whom: counted by mount point, as Kata's agent does.

A storage is attached once, however many containers ask for it, and goes with the last of them; one that is `shared`, or
that the sandbox asked for, goes with the sandbox.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from guest.agent.errors import InvalidArgumentError, ResourceExhaustedError, UnimplementedError
from guest.agent.layout import Layout
from guest.agent.log import log
from guest.agent.names import path_beneath
from guest.agent.storage.registry import DRIVERS, Attach, Undo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from protos.lean.gen.grpc import Storage

MAX_STORAGES = 1024
#: The owner of what lives as long as the sandbox; no container has this id.
SANDBOX = ""


class _Attached:
    """One attached storage."""

    __slots__ = ("identity", "owners", "undo")

    def __init__(self, identity: tuple[str, str], undo: Undo) -> None:
        self.identity = identity
        self.undo = undo
        self.owners: set[str] = set()


class StorageTable:
    """All storages of the sandbox."""

    def __init__(self, layout: Layout, drivers: Mapping[str, Attach] | None = None) -> None:
        self._layout = layout
        self._drivers = DRIVERS if drivers is None else drivers
        self._attached: dict[str, _Attached] = {}
        self._lock = asyncio.Lock()

    @property
    def mount_points(self) -> list[str]:
        """What is attached, oldest first."""
        return list(self._attached)

    async def attach_all(self, owner: str, storages: Iterable[Storage]) -> None:
        """Attach all for `owner`, a container id or `SANDBOX`, or none: a failure releases what was attached."""
        async with self._lock:
            try:
                for storage in storages:
                    await self._attach(owner, storage)
            except BaseException:
                if owner != SANDBOX:
                    self._release(owner)
                else:
                    self._release_everything()
                raise

    async def release(self, owner: str) -> None:
        """`owner` needs its storages no more; what nobody else needs is taken away, last first."""
        async with self._lock:
            self._release(owner)

    async def release_everything(self) -> None:
        """The sandbox is gone."""
        async with self._lock:
            self._release_everything()

    async def _attach(self, owner: str, storage: Storage) -> None:
        driver = self._drivers.get(storage.driver)
        if driver is None:
            raise UnimplementedError(f"storage driver {storage.driver[:40]!r} is not supported")
        mount_point = path_beneath(storage.mount_point, self._layout.shared_run, "storage mount point")
        identity = (storage.driver, storage.source)
        attached = self._attached.get(mount_point)
        if attached is None:
            if len(self._attached) >= MAX_STORAGES:
                raise ResourceExhaustedError(f"{MAX_STORAGES} storages are attached")
            attached = _Attached(identity, await driver(storage, mount_point, self._layout))
            self._attached[mount_point] = attached
        elif attached.identity != identity:
            raise InvalidArgumentError(f"storage mount point {mount_point} is in use by another storage")
        attached.owners.add(SANDBOX if storage.shared else owner)

    def _release(self, owner: str) -> None:
        for mount_point in reversed(self.mount_points):
            attached = self._attached[mount_point]
            attached.owners.discard(owner)
            if not attached.owners:
                self._undo(mount_point)

    def _release_everything(self) -> None:
        for mount_point in reversed(self.mount_points):
            self._undo(mount_point)

    def _undo(self, mount_point: str) -> None:
        try:
            self._attached.pop(mount_point).undo()
        except OSError as error:
            log.warning("storage at %s is left behind: %s", mount_point, error)
