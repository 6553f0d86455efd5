"""Which root file systems are disks of the guest: pure reading of containerd's mounts.

A snapshotter gives a block device (devmapper), an image file (blockfile: mount option `loop`), or erofs layers with a
description of their overlay (erofs snapshotter: types with `format/`, places as `{{ mount 0 }}/upper`). Everything else
is mounted on the host and shared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox.errors import InvalidArgumentError, UnimplementedError
from sandbox.interface import Mount

#: File systems that lie on a disk and that guests know.
DISK_TYPES = frozenset({"btrfs", "erofs", "ext2", "ext3", "ext4", "squashfs", "xfs"})
MAKE_FILESYSTEM = "mkfs/"
_FORMATTED = "format/"
_MAKE_DIRECTORY = "mkdir/"
_OWN = "X-containerd."
_DIRECTORY = f"{_OWN}mkdir.path="
_SIZE = f"{_OWN}mkfs.size="
_TEMPLATE = re.compile(r"\{\{ *(mount|overlay) +([0-9]{1,4})(?: +([0-9]{1,4}))? *\}\}")
_BYTES = re.compile(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """One disk of a root file system. `directories` are to be made on a writable one, relative to it."""

    source: str
    fstype: str
    options: tuple[str, ...] = ()
    read_only: bool = False
    directories: tuple[str, ...] = ()
    #: Bytes of an image that is made with a new file system if it does not exist; 0: it exists, with one.
    make_size: int = 0


@dataclass(frozen=True)
class DiskRootfs:
    """A root file system of disks; with several, or with an overlay, `layers` has the uppermost first.

    `upper` is the writable layer of an overlay; without one it is the guest's memory.
    """

    layers: tuple[Layer, ...]
    upper: Layer | None = None
    is_overlay: bool = False


def plan_rootfs(mounts: Sequence[Mount], *, use_devices: bool, is_device: Callable[[str], bool]) -> DiskRootfs | None:
    """The root file system as disks, or None for one that the host mounts and shares.

    Block devices are plugged in if `use_devices`; image files always are, for the host would need a loop device.
    Raises `UnimplementedError` for kinds of layers that are not known, `InvalidArgumentError` for a senseless list.
    """
    if not mounts:
        return None
    if len(mounts) == 1:
        return _single(mounts[0], use_devices, is_device)
    last = mounts[-1]
    if not last.type.startswith(_FORMATTED):
        return None
    layers = [_layer(item) for item in mounts[:-1]]
    kind = last.type.removeprefix(_FORMATTED).removeprefix(_MAKE_DIRECTORY)
    if kind == "bind":
        return DiskRootfs((layers[_place(last.source, len(layers))[0]],))
    if kind != "overlay":
        raise UnimplementedError(f"root file system mount of type {last.type!r} is not supported")
    return _overlay(layers, last.options)


def _single(mount: Mount, use_devices: bool, is_device: Callable[[str], bool]) -> DiskRootfs | None:
    fstype = mount.type.removeprefix(MAKE_FILESYSTEM)
    if fstype not in DISK_TYPES:
        return None
    if not mount.type.startswith(MAKE_FILESYSTEM) and is_device(mount.source) and not use_devices:
        return None
    return DiskRootfs((_layer(mount),))


def _layer(mount: Mount) -> Layer:
    """A mount as a disk; what only the host's mount needs is left out."""
    fstype = mount.type.removeprefix(MAKE_FILESYSTEM)
    if fstype not in DISK_TYPES:
        raise UnimplementedError(f"root file system layer of type {mount.type!r} is not supported")
    if any(option.startswith("device=") for option in mount.options):
        raise UnimplementedError(f"layer {mount.source}: an erofs with further devices is not supported")
    options = tuple(item for item in mount.options if item != "loop" and not item.startswith(_OWN))
    makes = mount.type.startswith(MAKE_FILESYSTEM)
    return Layer(
        source=mount.source,
        fstype=fstype,
        options=options,
        read_only="ro" in options or fstype in ("erofs", "squashfs"),
        make_size=_make_size(mount) if makes else 0,
    )


def _make_size(mount: Mount) -> int:
    text = next((item.removeprefix(_SIZE) for item in mount.options if item.startswith(_SIZE)), "")
    match = _BYTES.fullmatch(text)
    if match is None or not int(match[1]):
        raise InvalidArgumentError(f"layer {mount.source}: {text[:40]!r} is no size for a new file system")
    return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")


def _overlay(layers: list[Layer], options: Sequence[str]) -> DiskRootfs:
    """The layers that an overlay's options name, in their order: the first of `lowerdir` is the uppermost."""
    values = dict(item.partition("=")[::2] for item in options)
    order = [number for part in values.get("lowerdir", "").split(":") for number in _places(part, len(layers))]
    if not order:
        raise InvalidArgumentError("root file system: the overlay names no layers")
    lowers = tuple(layers[number] for number in order)
    if any(lower.fstype != "erofs" for lower in lowers):
        raise UnimplementedError("root file system: only erofs layers can lie below an overlay")
    upper = values.get("upperdir", "")
    if not _TEMPLATE.match(upper):
        # A directory of the host, which can't be one with disks of the guest.
        return DiskRootfs(lowers, None, True)
    number, _ = _place(upper, len(layers))
    paths = (item.removeprefix(_DIRECTORY).partition(":")[0] for item in options if item.startswith(_DIRECTORY))
    places = [_place(path, len(layers)) for path in (upper, values.get("workdir", ""), *paths)]
    if any(place[0] != number for place in places):
        raise InvalidArgumentError("root file system: the overlay's writable directories are on several layers")
    if layers[number].read_only:
        raise InvalidArgumentError("root file system: the overlay's writable directories are on a read-only layer")
    writable = layers[number]
    directories = tuple(dict.fromkeys(place[1] for place in places))
    upper_layer = Layer(writable.source, writable.fstype, writable.options, False, directories, writable.make_size)
    return DiskRootfs(lowers, upper_layer, True)


def _places(text: str, count: int) -> list[int]:
    """The layers that `{{ mount 1 }}` or `{{ overlay 3 1 }}` stands for."""
    match = _TEMPLATE.fullmatch(text.strip())
    if match is None:
        raise UnimplementedError(f"root file system: layer {text[:100]!r} is a directory of the host, not a disk")
    first = int(match[2])
    last = int(match[3]) if match[1] == "overlay" and match[3] else first
    step = 1 if last >= first else -1
    numbers = list(range(first, last + step, step))
    if max(numbers) >= count:
        raise InvalidArgumentError(f"root file system: {text[:100]!r} names a layer that is not there")
    return numbers


def _place(text: str, count: int) -> tuple[int, str]:
    """The layer, and the path on it, that `{{ mount 0 }}/upper` stands for."""
    match = _TEMPLATE.match(text)
    if match is None or match[1] != "mount" or int(match[2]) >= count:
        raise InvalidArgumentError(f"root file system: {text[:100]!r} names no layer that is there")
    path = text[match.end() :]
    if path and (not path.startswith("/") or ".." in path.split("/")):
        raise InvalidArgumentError(f"root file system: {text[:100]!r} leaves its layer")
    return int(match[2]), path
