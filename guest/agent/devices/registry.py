"""The types of devices by the names that Kata's agent protocol gives them; what few need is imported late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from guest.agent.devices.finder import BLOCK_DRIVERS, DeviceFinder
from guest.agent.devices.mapping import DeviceUpdate
from guest.agent.errors import InvalidArgumentError, UnimplementedError
from guest.agent.names import absolute_path

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Device

MAX_DEVICES = 256

#: What a device changes in the spec, and the guest's PCI addresses by the host's.
Found = tuple[list[DeviceUpdate], dict[str, str]]
#: Waits for a device; raises `RpcError`.
Handler = Callable[["Device", DeviceFinder], Awaitable[Found]]


async def attach_block(device: Device, finder: DeviceFinder) -> Found:
    """A disk, by its address in `id` or, for those that have none, by the node in `vm_path`."""
    by_node = device.type in ("mmioblk", "nvdimm")
    disk = await finder.block(device.type, device.vm_path if by_node else device.id)
    path = absolute_path(device.container_path, "container path of a device")
    return [DeviceUpdate(path, "b", disk.major, disk.minor)], {}


async def attach_group(device: Device, finder: DeviceFinder) -> Found:
    """A PCI device passed on to the container."""
    from guest.agent.devices import vfio

    return await vfio.attach_group(device, finder)


async def attach_guest_kernel(device: Device, finder: DeviceFinder) -> Found:
    """A PCI device that the guest's kernel drives."""
    from guest.agent.devices import vfio

    return await vfio.attach_guest_kernel(device, finder)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(BLOCK_DRIVERS, attach_block),
    "vfio-pci": attach_group,
    "vfio-pci-gk": attach_guest_kernel,
}


async def find_all(devices: Sequence[Device], finder: DeviceFinder) -> Found:
    """All devices of a container; raises `RpcError` if one is malformed, unknown, or does not appear."""
    if len(devices) > MAX_DEVICES:
        raise InvalidArgumentError(f"{len(devices)} devices are too many")
    updates: list[DeviceUpdate] = []
    addresses: dict[str, str] = {}
    for device, handler in [(device, _handler(device)) for device in devices]:
        found, functions = await handler(device, finder)
        updates += found
        for host, guest in functions.items():
            if addresses.setdefault(host, guest) != guest:
                raise InvalidArgumentError(f"host PCI device {host} is two devices of the guest")
    return updates, addresses


def _handler(device: Device) -> Handler:
    handler = HANDLERS.get(device.type)
    if handler is None:
        raise UnimplementedError(f"device type {device.type[:40]!r} is not supported")
    # Checked for all before one is waited for.
    absolute_path(device.container_path, "container path of a device")
    return handler
