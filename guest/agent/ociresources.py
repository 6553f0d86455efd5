"""OCI resources: from the protocol's `grpc.LinuxResources` to the runtime-spec JSON, for cgroup v2. Pure.

A zero means "not set", for proto3 can't tell it from one. What only cgroup v1 has is dropped: kernel and TCP memory,
swappiness, the OOM killer's switch, real-time bandwidth, leaf weights, network classes and priorities.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from guest.agent.errors import InvalidArgumentError

if TYPE_CHECKING:
    from protos.lean.gen.grpc import (
        LinuxBlockIo,
        LinuxCpu,
        LinuxDeviceCgroup,
        LinuxMemory,
        LinuxResources,
        LinuxThrottleDevice,
    )

Json = dict[str, Any]

#: What the runtime-spec says a negative device number means.
_ANY = -1
MAX_UNIFIED = 64
MAX_UNIFIED_VALUE = 4096
#: A controller's file; those of the cgroup itself (cgroup.procs, ...) are not resources.
_UNIFIED_NAME = re.compile(r"(?!cgroup\.)[a-z_]+(\.[A-Za-z0-9_]+)+")


def resources_json(resources: LinuxResources | None, online_cpus: frozenset[int]) -> Json:
    """The runtime-spec `linux.resources` object; `online_cpus` are the guest's, see `_cpu`."""
    if resources is None:
        return {}
    result: Json = {}
    if resources.devices:
        result["devices"] = [_device_rule(rule) for rule in resources.devices]
    parts: dict[str, Json] = {
        "memory": _memory(resources.memory),
        "cpu": _cpu(resources.cpu, online_cpus),
        "pids": {"limit": resources.pids.limit} if resources.pids and resources.pids.limit else {},
        "blockIO": _block_io(resources.block_io),
    }
    result.update({name: part for name, part in parts.items() if part})
    if resources.hugepage_limits:
        result["hugepageLimits"] = [
            {"pageSize": limit.pagesize, "limit": limit.limit} for limit in resources.hugepage_limits
        ]
    if resources.unified:
        result["unified"] = _unified(resources.unified)
    return result


def _unified(files: dict[str, str]) -> dict[str, str]:
    """Files of the container's own cgroup, by name: never a path."""
    if len(files) > MAX_UNIFIED:
        raise InvalidArgumentError(f"{len(files)} unified resources are too many")
    for name, value in files.items():
        if not _UNIFIED_NAME.fullmatch(name) or len(value) > MAX_UNIFIED_VALUE:
            raise InvalidArgumentError(f"unified resource {name[:100]!r} is malformed")
    return dict(files)


def _device_rule(rule: LinuxDeviceCgroup) -> Json:
    if rule.type not in ("", "a", "b", "c") or set(rule.access) - set("rwm"):
        raise InvalidArgumentError(f"device rule {rule.type!r} {rule.access!r} is malformed")
    result: Json = {"allow": rule.allow, "type": rule.type or "a", "access": rule.access or "rwm"}
    # A rule for all devices carries zeros here, which must not become device 0:0.
    if result["type"] != "a":
        result.update(major=_number(rule.major), minor=_number(rule.minor))
    return result


def _number(value: int) -> int:
    return value if value >= 0 else _ANY


def _memory(memory: LinuxMemory | None) -> Json:
    if memory is None:
        return {}
    values = {"limit": memory.limit, "reservation": memory.reservation, "swap": memory.swap}
    return {name: value for name, value in values.items() if value}


def _cpu(cpu: LinuxCpu | None, online: frozenset[int]) -> Json:
    """A cpuset that names CPUs which the guest doesn't have was made for the host's CPUs, and is left out."""
    if cpu is None:
        return {}
    values: Json = {"shares": cpu.shares, "quota": cpu.quota, "period": cpu.period}
    if cpu.cpus and cpu_set(cpu.cpus) <= online:
        values["cpus"] = cpu.cpus
    if cpu.mems == "0":
        values["mems"] = cpu.mems
    return {name: value for name, value in values.items() if value}


def cpu_set(text: str) -> frozenset[int]:
    """The numbers in the kernel's list format, `0-2,5`; raises `InvalidArgumentError` for anything else."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        if not _is_cpu(first) or (dash and not _is_cpu(last)):
            raise InvalidArgumentError(f"cpuset {text[:100]!r} is malformed")
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(numbers)


def _is_cpu(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 5


def _block_io(block: LinuxBlockIo | None) -> Json:
    if block is None:
        return {}
    values: Json = {
        "weight": block.weight,
        "weightDevice": [
            {"major": device.major, "minor": device.minor, "weight": device.weight} for device in block.weight_device
        ],
        "throttleReadBpsDevice": _throttles(block.throttle_read_bps_device),
        "throttleWriteBpsDevice": _throttles(block.throttle_write_bps_device),
        "throttleReadIOPSDevice": _throttles(block.throttle_read_iops_device),
        "throttleWriteIOPSDevice": _throttles(block.throttle_write_iops_device),
    }
    return {name: value for name, value in values.items() if value}


def _throttles(devices: list[LinuxThrottleDevice]) -> list[Json]:
    return [{"major": device.major, "minor": device.minor, "rate": device.rate} for device in devices]
