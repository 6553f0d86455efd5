"""Which storages are attached, and for whom: counted by mount point, as Kata's agent does.

A storage is attached once, however many containers ask for it, and goes with the last of them; one that is `shared`, or
that the sandbox asked for, goes with the sandbox.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from guest.agent.errors import InvalidArgumentError, ResourceExhaustedError, RpcError, UnimplementedError
from guest.agent.layout import Layout
from guest.agent.log import log
from guest.agent.names import is_beneath, path_beneath
from guest.agent.storage.registry import DRIVERS, is_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from guest.agent.storage.context import Attach, DriverContext, Undo
    from protos.lean.gen.grpc import Storage

MAX_STORAGES = 1024
#: The owner of what lives as long as the sandbox; no container has this id.
SANDBOX = ""


class _Attached:
    """One attached storage."""

    __slots__ = ("identity", "owners", "undo")

    def __init__(self, identity: tuple[str, ...], undo: Undo) -> None:
        self.identity = identity
        self.undo = undo
        self.owners: set[str] = set()


class StorageTable:
    """All storages of the sandbox."""

    def __init__(self, context: DriverContext, drivers: Mapping[str, Attach] | None = None) -> None:
        self._context = context
        self._drivers = DRIVERS if drivers is None else drivers
        self._attached: dict[str, _Attached] = {}
        self._lock = asyncio.Lock()

    @property
    def mount_points(self) -> list[str]:
        """What is attached, oldest first."""
        return list(self._attached)

    def driver_of(self, mount_point: str) -> str:
        """The driver of what is attached at a mount point; empty if nothing is."""
        attached = self._attached.get(mount_point)
        return attached.identity[0] if attached is not None else ""

    async def attach_all(self, owner: str, storages: Sequence[Storage]) -> None:
        """Attach all for `owner`, a container id or `SANDBOX`, or none: a failure releases what was attached."""
        async with self._lock:
            try:
                for group in _grouped(storages):
                    await self._attach(owner, group)
            except BaseException:
                if owner != SANDBOX:
                    await self._release(owner)
                else:
                    await self._release_everything()
                raise

    async def release(self, owner: str) -> None:
        """`owner` needs its storages no more; what nobody else needs is taken away, last first."""
        async with self._lock:
            await self._release(owner)

    async def release_everything(self) -> None:
        """The sandbox is gone."""
        async with self._lock:
            await self._release_everything()

    async def _attach(self, owner: str, group: Sequence[Storage]) -> None:
        """Attach a storage, or the layers that make one."""
        driver = group[0].driver
        attach = self._drivers.get(driver)
        if attach is None:
            raise UnimplementedError(f"storage driver {driver[:40]!r} is not supported")
        mount_point = checked_mount_point(group[0].mount_point, self._context.layout)
        identity = (driver, *(storage.source for storage in group))
        attached = self._attached.get(mount_point)
        if attached is None:
            if len(self._attached) >= MAX_STORAGES:
                raise ResourceExhaustedError(f"{MAX_STORAGES} storages are attached")
            if is_layer(group[0]):
                from guest.agent.storage import layers

                undo = await layers.attach_layers(group, mount_point, self._context)
            else:
                undo = await attach(group[0], mount_point, self._context)
            attached = self._attached[mount_point] = _Attached(identity, undo)
        elif attached.identity != identity:
            raise InvalidArgumentError(f"storage mount point {mount_point} is in use by another storage")
        attached.owners.add(SANDBOX if any(storage.shared for storage in group) else owner)

    async def _release(self, owner: str) -> None:
        for mount_point in reversed(self.mount_points):
            attached = self._attached[mount_point]
            attached.owners.discard(owner)
            if not attached.owners:
                await self._undo(mount_point)

    async def _release_everything(self) -> None:
        for mount_point in reversed(self.mount_points):
            await self._undo(mount_point)

    async def _undo(self, mount_point: str) -> None:
        try:
            await self._attached.pop(mount_point).undo()
        except (OSError, RpcError) as error:
            log.warning("storage at %s is left behind: %s", mount_point, error)


def checked_mount_point(value: str, layout: Layout) -> str:
    """A place in Kata's tree where the host may have something mounted: not over what the agent itself has there."""
    path = path_beneath(value, layout.shared_run, "storage mount point")
    own = f"{layout.sandbox}/ns"
    if path in (layout.sandbox, f"{layout.shared_run}/shared", own) or is_beneath(path, own):
        raise InvalidArgumentError(f"storage mount point {path} is the agent's own")
    return path


def _grouped(storages: Iterable[Storage]) -> list[list[Storage]]:
    """The storages in their order, layers of one root file system together."""
    groups: list[list[Storage]] = []
    roots: dict[str, list[Storage]] = {}
    for storage in storages:
        if not is_layer(storage):
            groups.append([storage])
        elif storage.mount_point in roots:
            roots[storage.mount_point].append(storage)
        else:
            roots[storage.mount_point] = [storage]
            groups.append(roots[storage.mount_point])
    return groups
