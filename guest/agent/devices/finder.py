"""Finds a device by its address, and waits for one that the host has just plugged in.

The guest has no udev, so drivers of what may come later are loaded here; one that the kernel has built in is not
missed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from guest.agent.devices import blocks
from guest.agent.devices.blocks import BlockDevice, Number
from guest.agent.errors import InvalidArgumentError, RpcError
from guest.agent.layout import Layout
from guest.agent.log import log

if TYPE_CHECKING:
    from guest.agent.devices.addresses import PciPath, ScsiAddress

#: Loads a kernel module; raises `RpcError`.
Load = Callable[[str], Awaitable[None]]

#: By the name of the driver in Kata's protocol: the modules without which such a disk never appears.
_MODULES = {
    "blk": ("virtio_blk",),
    "mmioblk": ("virtio_mmio", "virtio_blk"),
    "blk-ccw": ("virtio_blk",),
    "scsi": ("virtio_scsi", "sd_mod"),
    "nvdimm": ("nfit", "nd_pmem"),
}
BLOCK_DRIVERS = tuple(_MODULES)


class DeviceFinder:
    """Finds devices. `timeout` is how many seconds one that is plugged in may take to appear."""

    def __init__(self, layout: Layout, load: Load, timeout: float, root: str = "/") -> None:
        self.layout = layout
        self.timeout = timeout
        self._load = load
        self._root = root
        self._root_numbers: frozenset[Number] | None = None

    @property
    def root_numbers(self) -> frozenset[Number]:
        """The numbers of the guest's root disk, which can't change while it runs."""
        if self._root_numbers is None:
            self._root_numbers = blocks.root_numbers(self.layout.sys, self._root)
        return self._root_numbers

    async def block(self, driver: str, address: str) -> BlockDevice:
        """The disk at `address`, in the form that belongs to `driver`: one of `BLOCK_DRIVERS`.

        Raises `InvalidArgumentError` for a malformed address and for the root disk, `DeadlineError` if it never comes.
        """
        look, kick = self._search(driver, address)
        what = f"{driver} device {address}"
        device = look() or await self._appearance(driver, look, what, kick)
        if device.number in self.root_numbers:
            raise InvalidArgumentError(f"{what} is the guest's own root disk")
        return device

    async def pci(self, path: PciPath) -> str:
        """The guest's address (`0000:01:03.0`) of the PCI device at `path`."""
        from guest.agent.devices.uevents import appearance

        look = self._pci_directory(path)
        return os.path.basename(await appearance(look, f"PCI device {path}", self.timeout, self.rescan_pci))

    async def load(self, *modules: str) -> None:
        """Load drivers that are not there; if one can't be loaded, its devices won't appear, and that is told."""
        for name in modules:
            if not os.path.isdir(f"{self.layout.sys}/module/{name}"):
                try:
                    await self._load(name)
                except RpcError as error:
                    log.info("driver %s: %s", name, error)

    async def rescan_pci(self) -> None:
        """Let the kernel look for PCI devices that it was not told of."""
        await self._write("bus/pci/rescan", "1")

    async def rescan_scsi(self, address: ScsiAddress) -> None:
        """Let every SCSI host look for a unit."""
        for host in blocks.names(f"{self.layout.sys}/class/scsi_host"):
            await self._write(f"class/scsi_host/{host}/scan", f"0 {address.target} {address.lun}")

    def _search(
        self, driver: str, address: str
    ) -> tuple[Callable[[], BlockDevice | None], Callable[[], Awaitable[None]] | None]:
        """How to look for a disk, and how to make the kernel look."""
        from guest.agent.devices.addresses import PciPath, ScsiAddress, ccw_address, node_name

        layout = self.layout
        if driver == "scsi":
            scsi = ScsiAddress.parse(address)
            return lambda: blocks.by_scsi_address(layout, scsi), lambda: self.rescan_scsi(scsi)
        if driver == "blk-ccw":
            ccw = ccw_address(address)
            return lambda: blocks.by_ccw_address(layout, ccw), None
        if driver in ("mmioblk", "nvdimm") or (driver == "blk" and address.startswith("/")):
            name = node_name(address)
            return lambda: blocks.by_name(layout, name), None
        path = PciPath.parse(address)
        return lambda: blocks.by_pci_path(layout, path), self.rescan_pci

    async def _appearance(
        self,
        driver: str,
        look: Callable[[], BlockDevice | None],
        what: str,
        kick: Callable[[], Awaitable[None]] | None,
    ) -> BlockDevice:
        from guest.agent.devices.uevents import appearance

        async def prepare() -> None:
            await self.load(*_MODULES.get(driver, ()))
            if kick is not None and look() is None:
                await kick()

        return await appearance(look, what, self.timeout, prepare)

    def _pci_directory(self, path: PciPath) -> Callable[[], str | None]:
        return lambda: blocks.pci_directory(self.layout.sys, path)

    async def _write(self, attribute: str, value: str) -> None:
        """Write an attribute that makes the kernel probe devices, which takes its time."""
        await asyncio.to_thread(write_attribute, f"{self.layout.sys}/{attribute}", value)


def write_attribute(path: str, value: str) -> None:
    """Write an attribute of sysfs; a refusal is logged, for the device that does not appear says the rest."""
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        log.info("%s: %s", path, error.strerror)
