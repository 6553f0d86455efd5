"""PCI devices that the host passes through: for the guest's own driver, or for the container as a VFIO group.

Each option of the device is `<host address>=<PCI path in the guest>`. See the kernel's
Documentation/driver-api/vfio.rst.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from guest.agent.devices import blocks
from guest.agent.devices.addresses import PciPath, pci_address
from guest.agent.devices.finder import DeviceFinder
from guest.agent.devices.mapping import DeviceUpdate
from guest.agent.devices.uevents import appearance
from guest.agent.errors import FailedPreconditionError, InvalidArgumentError, failed
from guest.agent.names import absolute_path

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Device

DRIVER = "vfio-pci"
#: Functions of one group.
MAX_FUNCTIONS = 64


def parse_option(option: str) -> tuple[str, PciPath]:
    """The host's address and the guest's path in `0000:3b:00.0=02/01`."""
    host, equals, path = option.partition("=")
    if not equals:
        raise InvalidArgumentError(f"VFIO option {option[:100]!r} is malformed")
    return pci_address(host), PciPath.parse(path)


async def find_functions(device: Device, finder: DeviceFinder) -> dict[str, str]:
    """Wait for all functions of the device; returns the guest's address of each by the host's."""
    wanted = [parse_option(option) for option in device.options]
    if not 0 < len(wanted) <= MAX_FUNCTIONS or len({host for host, _ in wanted}) != len(wanted):
        raise InvalidArgumentError(f"VFIO device {device.id[:100]!r} has no, too many, or doubled functions")
    return {host: await finder.pci(path) for host, path in wanted}


async def attach_guest_kernel(device: Device, finder: DeviceFinder) -> tuple[list[DeviceUpdate], dict[str, str]]:
    """`vfio-pci-gk`: the guest's kernel drives it, the container only learns its address."""
    return [], await find_functions(device, finder)


async def attach_group(device: Device, finder: DeviceFinder) -> tuple[list[DeviceUpdate], dict[str, str]]:
    """`vfio-pci`: bind the functions to the VFIO driver and give the container their group's device."""
    functions = await find_functions(device, finder)
    await finder.load("vfio_iommu_type1", "vfio_pci")
    groups: set[str] = set()
    for address in functions.values():
        bind(finder.layout.sys, address)
        groups.add(group_of(finder.layout.sys, address))
    if len(groups) != 1:
        raise FailedPreconditionError(f"VFIO device {device.id[:100]!r} lies in IOMMU groups {sorted(groups)}")
    group = groups.pop()
    attribute = f"{finder.layout.sys}/class/vfio/{group}/dev"
    number = await appearance(
        lambda: blocks.parse_number(blocks.read(attribute)), f"VFIO group {group}", finder.timeout
    )
    path = f"/dev/vfio/{group}"
    place = absolute_path(device.container_path, "container path of a device")
    return [DeviceUpdate(place, "c", *number, final_path=path)], functions


def group_of(sys: str, address: str) -> str:
    """The number of a function's IOMMU group."""
    try:
        group = os.path.basename(os.readlink(f"{sys}/bus/pci/devices/{address}/iommu_group"))
    except OSError as error:
        raise FailedPreconditionError(f"PCI device {address} has no IOMMU group: the guest has no IOMMU") from error
    if not group.isdigit():
        raise FailedPreconditionError(f"PCI device {address} has the odd IOMMU group {group[:40]!r}")
    return group


def bind(sys: str, address: str) -> None:
    """Have a function driven by `DRIVER`, whatever drove it before."""
    place = f"{sys}/bus/pci/devices/{address}"
    try:
        _write(f"{place}/driver_override", DRIVER)
        if os.path.basename(os.path.realpath(f"{place}/driver")) == DRIVER:
            return
        if os.path.exists(f"{place}/driver"):
            _write(f"{place}/driver/unbind", address)
        _write(f"{sys}/bus/pci/drivers_probe", address)
    except OSError as error:
        raise failed(f"bind PCI device {address} to {DRIVER}", error) from error


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
