"""A container's block devices: which of them are disks that it is to have, and which only the host's. Pure but for a
look at the host's nodes.

The spec names a device of the host by its number, which is another device in the guest: so the disk is plugged in, and
the guest's agent puts the guest's number into the spec and into the rules of the device cgroup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from sandbox.oci import Device, DeviceRule, Spec
from sandbox.volumes import BoundDevice

#: Tells whether a path on the host is the node of the block device of that number.
IsNodeOf = Callable[[str, tuple[int, int]], bool]
_ANY = ("", "a")


def disk_devices(spec: Spec, is_node_of: IsNodeOf) -> list[Device]:
    """The block devices that a container is to have as disks.

    A privileged one may use all devices, and gets the host's listed under their own names: those are left out, as with
    `privileged_without_host_devices`; a device that it asked for has a name of its own choice.
    """
    blocks = [device for device in spec.linux.devices if device.type == "b"]
    if not may_all(spec):
        return blocks
    return [device for device in blocks if not is_node_of(device.path, (device.major, device.minor))]


def read_only(spec: Spec, device: Device) -> bool:
    """Whether the rules of the device cgroup let the container read a device and not write it."""
    rules = spec.linux.resources.devices if spec.linux.resources else []
    allowed = [rule for rule in rules if rule.allow and _is_about(rule, device)]
    return bool(allowed) and not any("w" in rule.access for rule in allowed)


def guest_devices(spec: Spec, disks: Sequence[Device], bound: Sequence[BoundDevice]) -> list[Device]:
    """The devices to send: those that are no disks, the disks, and the devices that mounts show."""
    others = [device for device in spec.linux.devices if device.type != "b"]
    shown = [Device(path=item.destination, type="b", major=item.number[0], minor=item.number[1]) for item in bound]
    return [*others, *disks, *shown]


def with_devices(spec: Spec, devices: list[Device]) -> Spec:
    """The spec with these devices in place of its own."""
    return msgspec.structs.replace(spec, linux=msgspec.structs.replace(spec.linux, devices=devices))


def may_all(spec: Spec) -> bool:
    """Whether the container may use every device, as a privileged one may."""
    rules = spec.linux.resources.devices if spec.linux.resources else []
    return any(rule.allow and rule.type in _ANY and _any(rule.major) and _any(rule.minor) for rule in rules)


def _is_about(rule: DeviceRule, device: Device) -> bool:
    if rule.type not in (*_ANY, "b"):
        return False
    return (_any(rule.major) or rule.major == device.major) and (_any(rule.minor) or rule.minor == device.minor)


def _any(number: int | None) -> bool:
    return number is None or number < 0
