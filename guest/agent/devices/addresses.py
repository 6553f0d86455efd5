"""Addresses of devices as the host writes them, checked and taken apart. Pure.

PCI paths are Kata's (`02`, `02/03`, a function after a dot: `1e.1`); with three or more parts the first may be the bus
of another root complex, from 20 (hexadecimal) on. A malformed address is `InvalidArgumentError`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from guest.agent.errors import InvalidArgumentError
from guest.agent.names import absolute_path

_SLOT = re.compile(r"([0-9a-fA-F]{1,2})(?:\.([0-7]))?")
_PCI_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{4}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])")
_SCSI = re.compile(r"([0-9]{1,3}):([0-9]{1,5})")
_CCW = re.compile(r"0\.([0-3])\.([0-9a-fA-F]{4})")
_NODE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")

LAST_SLOT = 0x1F
#: Buses of further root complexes (QEMU's pxb-pcie, one per NUMA node) begin here, as Kata's runtime numbers them.
FIRST_FURTHER_ROOT = 0x20
#: Bridges behind bridges: more than any machine of ours has.
MAX_DEPTH = 8
#: virtio-scsi has 256 targets and 16384 units.
LAST_SCSI_ID, LAST_SCSI_LUN = 255, 16383


class PciPath(NamedTuple):
    """The root complex' bus, and the slots from there to the device as sysfs writes them (`03.0`)."""

    root: str
    slots: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> PciPath:
        """Read `02/03`."""
        parts = text.split("/")
        root = "00"
        if len(parts) >= 3 and _is_further_root(parts[0]):
            root = parts.pop(0).lower()
        if not 0 < len(parts) <= MAX_DEPTH:
            raise _malformed("PCI path", text)
        return cls(root, tuple(_slot(part, text) for part in parts))

    @classmethod
    def of_slots(cls, slots: list[int]) -> PciPath:
        """The path of slot numbers, as AddSwap has them."""
        return cls.parse("/".join(f"{slot:02x}" for slot in slots))

    def __str__(self) -> str:
        return "/".join(slot.removesuffix(".0") for slot in self.slots)


class ScsiAddress(NamedTuple):
    """Target and unit behind a virtio-scsi controller; its channel is always 0."""

    target: int
    lun: int

    @classmethod
    def parse(cls, text: str) -> ScsiAddress:
        """Read `id:lun`, both decimal."""
        match = _SCSI.fullmatch(text)
        if match is None or int(match[1]) > LAST_SCSI_ID or int(match[2]) > LAST_SCSI_LUN:
            raise _malformed("SCSI address", text)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.target}:{self.lun}"


def pci_address(text: str) -> str:
    """A PCI address of the host, `0000:3b:00.0`; the domain may be missing and is 0 then."""
    match = _PCI_ADDRESS.fullmatch(text)
    if match is None or int(match[3], 16) > LAST_SLOT:
        raise _malformed("PCI address", text)
    return f"{match[1] or '0000'}:{match[2]}:{match[3]}.{match[4]}".lower()


def ccw_address(text: str) -> str:
    """A channel device of s390x: `0.<subchannel set>.<device number>`, e.g. `0.0.0004`."""
    match = _CCW.fullmatch(text)
    if match is None:
        raise _malformed("CCW address", text)
    return text.lower()


def node_name(text: str) -> str:
    """The name of a device node given as `/dev/<name>`; a path deeper than that is refused."""
    path = absolute_path(text, "device")
    name = path.removeprefix("/dev/")
    if name == path or not _NODE.fullmatch(name):
        raise _malformed("device", text)
    return name


def _slot(part: str, text: str) -> str:
    match = _SLOT.fullmatch(part)
    if match is None or int(match[1], 16) > LAST_SLOT:
        raise _malformed("PCI path", text)
    return f"{int(match[1], 16):02x}.{match[2] or '0'}"


def _is_further_root(part: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{2}", part) is not None and int(part, 16) >= FIRST_FURTHER_ROOT


def _malformed(what: str, text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{what} {text[:100]!r} is malformed")
