"""What a guest has, as a container in it sees that, and updates of limits through the Task API."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from protos.gen.containerd.task.v2 import UpdateTaskRequest
from protos.gen.wellknown import Any as AnyMessage
from tests.harness.waiting import eventually
from tests.integration.system.vm import Vm

MIB = 1 << 20
#: Seconds for a guest to take what it gets, and to let go, on a busy machine.
PATIENCE = 60.0
_RESOURCES = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"


@dataclass(frozen=True)
class Size:
    """CPUs that are online, and MemTotal in MiB."""

    cpus: int
    memory_mib: int


def look(vm: Vm, container: str) -> Size:
    """The guest's size now, by the eyes of a running container."""
    text = vm.exec(container, "sh", "-c", "grep -c ^processor /proc/cpuinfo; grep MemTotal /proc/meminfo").check().text
    cpus, memory = text.splitlines()
    return Size(int(cpus), int(memory.split()[1]) >> 10)


def wait_for(vm: Vm, container: str, expected: Size, slack_mib: int = 8) -> None:
    """Wait until the guest has this size, give or take what its kernel keeps for itself."""

    def reached() -> bool:
        size = look(vm, container)
        return size.cpus == expected.cpus and abs(size.memory_mib - expected.memory_mib) <= slack_mib

    eventually(reached, f"the guest has {expected}", timeout=PATIENCE)


def limits(cpus: float = 0, memory_mib: int = 0, **more: Any) -> dict[str, Any]:
    """The `linux.resources` of so much."""
    result: dict[str, Any] = dict(more)
    if cpus:
        result["cpu"] = {"quota": int(cpus * 100_000), "period": 100_000}
    if memory_mib:
        result["memory"] = {"limit": memory_mib * MIB}
    return result


async def update(vm: Vm, container: str, resources: dict[str, Any]) -> None:
    """`Update` of a container's task; raises `GRPCError`."""
    document = AnyMessage(type_url=_RESOURCES, value=json.dumps(resources).encode())
    async with vm.task() as stub:
        await stub.update(UpdateTaskRequest(id=container, resources=document), timeout=PATIENCE)


def host_cpus() -> int:
    """CPUs that a VM may have here."""
    return len(os.sched_getaffinity(0))
