"""Block devices as sysfs shows them: which there are, where they hang, how big they are. Reads only.

See the kernel's Documentation/admin-guide/sysfs-rules.rst; `/sys/class/block/<name>/dev` holds `major:minor`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guest.agent.devices.addresses import PciPath, ScsiAddress
    from guest.agent.layout import Layout

#: The unit of sysfs' sizes, whatever the device's own sectors are.
SECTOR = 512

#: Major and minor number.
Number = tuple[int, int]


class BlockDevice:
    """A disk or partition of the guest: its node and its numbers."""

    __slots__ = ("major", "minor", "path")

    def __init__(self, path: str, major: int, minor: int) -> None:
        self.path = path
        self.major = major
        self.minor = minor

    @property
    def number(self) -> Number:
        """Major and minor number."""
        return self.major, self.minor


def by_name(layout: Layout, name: str) -> BlockDevice | None:
    """The device `name`, once it can be opened: the kernel shows one in sysfs a moment before that."""
    number = parse_number(read(f"{layout.sys}/class/block/{name}/dev"))
    path = f"{layout.dev}/{name}"
    if number is None:
        return None
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError:
        return None
    return BlockDevice(path, *number)


def by_pci_path(layout: Layout, path: PciPath) -> BlockDevice | None:
    """The disk of the virtio-blk device at `path`."""
    place = pci_directory(layout.sys, path)
    return _first(layout, entries(place, "virtio[0-9]*", "block", "*")) if place is not None else None


def by_scsi_address(layout: Layout, address: ScsiAddress) -> BlockDevice | None:
    """The disk of a SCSI unit, behind whatever host it is."""
    pattern = f"[0-9]*:0:{address.target}:{address.lun}"
    return _first(layout, entries(f"{layout.sys}/bus/scsi/devices", pattern, "block", "*"))


def by_ccw_address(layout: Layout, address: str) -> BlockDevice | None:
    """The disk of a virtio-blk device on the channel subsystem."""
    return _first(layout, entries(f"{layout.sys}/bus/ccw/devices/{address}", "virtio[0-9]*", "block", "*"))


def pci_directory(sys: str, path: PciPath) -> str | None:
    """The sysfs directory of the device at `path`; None if there is none, or no bridge where one must be."""
    bus = f"0000:{path.root}"
    place = f"{sys}/devices/pci{bus}"
    for depth, slot in enumerate(path.slots):
        if depth:
            buses = names(f"{place}/pci_bus")
            if len(buses) != 1:
                return None
            bus = buses[0]
        place = f"{place}/{bus}:{slot}"
    return place if os.path.isdir(place) else None


def size(sys: str, number: Number) -> int:
    """The bytes of a device; 0 if it is gone."""
    text = read(f"{sys}/dev/block/{number[0]}:{number[1]}/size")
    return int(text) * SECTOR if text.isdigit() else 0


def root_numbers(sys: str, root: str = "/") -> frozenset[Number]:
    """The numbers of the root disk: the disk that `root` is on and all its partitions, and what those lie on.

    Empty where the root is no disk (an initrd).
    """
    found: set[Number] = set()
    try:
        device = os.stat(root).st_dev
    except OSError:
        return frozenset()
    _collect(sys, (os.major(device), os.minor(device)), found)
    return frozenset(found)


def _collect(sys: str, number: Number, found: set[Number]) -> None:
    place = os.path.realpath(f"{sys}/dev/block/{number[0]}:{number[1]}")
    if number in found or not os.path.isdir(place):
        return
    disk = os.path.dirname(place) if os.path.exists(f"{place}/partition") else place
    for name in (".", *names(disk)):
        part = parse_number(read(f"{disk}/{name}/dev"))
        if part is not None:
            found.add(part)
    for name in names(f"{disk}/slaves"):
        below = parse_number(read(f"{disk}/slaves/{name}/dev"))
        if below is not None:
            _collect(sys, below, found)


def entries(directory: str, *patterns: str) -> list[str]:
    """The paths below `directory` whose components match the patterns, sorted."""
    from fnmatch import fnmatchcase

    places = [directory]
    for pattern in patterns:
        places = [f"{place}/{name}" for place in places for name in names(place) if fnmatchcase(name, pattern)]
    return places


def names(directory: str) -> list[str]:
    """What is in a directory, sorted; nothing if it isn't there."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def read(path: str) -> str:
    """The text of an attribute; empty if there is none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""


def parse_number(text: str) -> Number | None:
    """The numbers in `254:0`."""
    major, _, minor = text.partition(":")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _first(layout: Layout, places: list[str]) -> BlockDevice | None:
    return by_name(layout, os.path.basename(places[0])) if places else None
