"""The storage drivers by the names that Kata's agent protocol gives them.

What a pod always needs is imported with this module, the rest when it is first asked for: an import costs boot time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guest.agent.devices.finder import BLOCK_DRIVERS
from guest.agent.storage import directories, shares

if TYPE_CHECKING:
    from guest.agent.storage.context import Attach, DriverContext, Undo
    from protos.lean.gen.grpc import Storage

#: The driver of a root file system that several disks make; see `layers`.
LAYERED = "erofs.multi-layer"
_LAYERED_OPTION = "X-kata.multi-layer=true"


def is_layer(storage: Storage) -> bool:
    """Whether a storage is one layer of several."""
    return storage.driver == LAYERED or _LAYERED_OPTION in storage.options


async def _attach_disk(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    from guest.agent.storage.disks import attach_disk

    return await attach_disk(storage, mount_point, context)


async def _attach_layer(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    from guest.agent.storage.layers import attach_layers

    return await attach_layers([storage], mount_point, context)


async def _attach_overlay(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    from guest.agent.storage.overlay import attach_overlay

    return await attach_overlay(storage, mount_point, context)


async def _attach_watched(storage: Storage, mount_point: str, context: DriverContext) -> Undo:
    from guest.agent.storage.watched import attach_watched

    return await attach_watched(storage, mount_point, context)


DRIVERS: dict[str, Attach] = {
    "9p": shares.attach_9p,
    "bind": shares.attach_bind,
    **dict.fromkeys(BLOCK_DRIVERS, _attach_disk),
    "ephemeral": directories.attach_ephemeral,
    LAYERED: _attach_layer,
    "local": directories.attach_local,
    "overlayfs": _attach_overlay,
    "virtio-fs": shares.attach_virtiofs,
    "watchable-bind": _attach_watched,
}
