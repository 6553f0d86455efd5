"""Root file systems of several disks: read-only erofs layers and a writable one, put together by overlayfs.

The storages of one root have the driver `erofs.multi-layer`, or the option `X-kata.multi-layer=true`, and one mount
point; the first layer is the uppermost. Options as Kata's runtime (containerd's erofs snapshotter) gives them:

    X-kata.overlay-lower                    a layer (so is every erofs)
    X-kata.overlay-upper                    the writable one (so is every ext4); without one, the guest's memory is
    X-kata.mkdir.path={{ mount 0 }}/upper   directories to be made on the writable one; a mode after a colon is ignored
    X-kata.mkfs=true                        make a file system on it if it is empty

Any other `X-kata.` option is refused, for it may ask for a check (dm-verity) that must not be left out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guest.agent.beneath import open_directory, remove_tree
from guest.agent.devices.finder import BLOCK_DRIVERS
from guest.agent.errors import InvalidArgumentError, UnimplementedError, failed
from guest.agent.mountopts import parse
from guest.agent.names import absolute_path
from guest.agent.storage import disks, filesystems
from guest.agent.storage.context import DriverContext, Undo, blocking, in_turn
from guest.agent.storage.mounting import DIRECTORY_MODE, mount_in, mount_on, take_down
from guest.agent.storage.overlay import scratch

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Storage

_PREFIX = "X-kata."
_GROUPED = "X-kata.multi-layer=true"
_UPPER = "X-kata.overlay-upper"
_LOWER = "X-kata.overlay-lower"
_MAKE_DIRECTORY = "X-kata.mkdir.path="
_MAKE_FILESYSTEM = "X-kata.mkfs=true"
_KNOWN = (_GROUPED, _UPPER, _LOWER, _MAKE_FILESYSTEM)
_KNOWN_KEYS = (_MAKE_DIRECTORY, "X-kata.mkfs.fs=ext4", "X-kata.mkfs.size=", "X-kata.mkfs.uuid=")
_UPPER_MOUNT = "{{ mount 0 }}"
#: The kernel's own limit of overlayfs (OVL_MAX_STACK).
MAX_LAYERS = 500


async def attach_layers(storages: Sequence[Storage], mount_point: str, context: DriverContext) -> Undo:
    """Mount all layers and the overlay of them."""
    uppers, lowers = _sorted(storages)
    place = scratch(context.layout)
    undos: list[Undo] = [blocking(lambda: remove_tree(place))]
    try:
        writable = place
        for upper in uppers:
            writable = f"{place}/writable"
            undos.insert(0, await _mount_upper(upper, writable, context))
        directories = []
        for number, lower in enumerate(lowers):
            directories.append(f"{place}/{number}")
            undos.insert(0, await _mount_layer(lower, directories[-1], context))
        # Colons part the layers; ours have none.
        options = [f"lowerdir={':'.join(directories)}", f"upperdir={writable}/upper", f"workdir={writable}/work"]
        undos.insert(0, blocking(mount_in(context.layout, "overlay", mount_point, "overlay", parse(options))))
    except BaseException:
        await in_turn(*undos)()
        raise
    return in_turn(*undos)


def _sorted(storages: Sequence[Storage]) -> tuple[list[Storage], list[Storage]]:
    """The writable layer, if there is one, and the others."""
    uppers: list[Storage] = []
    lowers: list[Storage] = []
    for storage in storages:
        _check_options(storage)
        is_upper = _UPPER in storage.options or (storage.fstype == "ext4" and _LOWER not in storage.options)
        (uppers if is_upper else lowers).append(storage)
    if not 0 < len(lowers) <= MAX_LAYERS or len(uppers) > 1:
        raise InvalidArgumentError(
            f"{len(lowers)} read-only and {len(uppers)} writable layers make no root file system"
        )
    for lower in lowers:
        if lower.fstype != "erofs":
            raise InvalidArgumentError(f"a layer is of type {lower.fstype[:40]!r}, not erofs")
    return uppers, lowers


def _check_options(storage: Storage) -> None:
    for option in storage.options:
        if option.startswith(_PREFIX) and option not in _KNOWN and not option.startswith(_KNOWN_KEYS):
            raise UnimplementedError(f"layer option {option[:100]!r} is not supported")
    if disks.creates_filesystem(storage.driver_options):
        raise InvalidArgumentError("a layer takes no driver options")


async def _mount_layer(storage: Storage, place: str, context: DriverContext) -> Undo:
    return await _mount(storage, place, ["ro"], context)


async def _mount_upper(storage: Storage, place: str, context: DriverContext) -> Undo:
    if _MAKE_FILESYSTEM in storage.options:
        device = await context.devices.block(_driver(storage), storage.source)
        await filesystems.ensure(device.path, storage.fstype, context.reaper)
    undo = await _mount(storage, place, [word for word in storage.options if not word.startswith(_PREFIX)], context)
    try:
        paths = [word.removeprefix(_MAKE_DIRECTORY) for word in storage.options if word.startswith(_MAKE_DIRECTORY)]
        for path in ("upper", "work", *map(_upper_path, paths)):
            os.close(open_directory(place, f"{place}/{path}", DIRECTORY_MODE))
    except BaseException:
        await undo()
        raise
    return undo


async def _mount(storage: Storage, place: str, options: list[str], context: DriverContext) -> Undo:
    fstype = filesystems.checked_type(storage.fstype)
    device = await context.devices.block(_driver(storage), storage.source)
    words = parse(disks.disk_options(fstype, options))

    def mount() -> None:
        try:
            os.mkdir(place)
        except OSError as error:
            raise failed(f"make {place}", error) from error
        fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            mount_on(fd, device.path, place, fstype, words)
        finally:
            os.close(fd)

    await asyncio.to_thread(mount)
    return blocking(lambda: take_down(context.layout, place))


def _driver(storage: Storage) -> str:
    """How a layer's source is to be read: with the driver of layers, it is a PCI path or a SCSI address."""
    if storage.driver in BLOCK_DRIVERS:
        return storage.driver
    return "scsi" if ":" in storage.source else "blk"


def _upper_path(spec: str) -> str:
    """The path of a directory on the writable layer, relative to it."""
    path = spec.partition(":")[0].removeprefix(_UPPER_MOUNT)
    if "{{" in path:
        raise InvalidArgumentError(f"directory {spec[:100]!r} is not on the writable layer")
    return absolute_path("/" + path, "directory of the writable layer").lstrip("/")
