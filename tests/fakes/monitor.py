"""A QMP without QEMU: it keeps what is plugged in, and misbehaves on command.

The commands of hot-plug have their effect; everything else is recorded and answered from `answers`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hypervisor.errors import QmpError

Event = tuple[str, Mapping[str, Any]]


class FakeMonitor:
    """Satisfies `hypervisor.hotplug.plug.Monitor`; `require` raises unless the VM runs."""

    def __init__(self, require: Callable[[str], None]) -> None:
        self._require = require
        self._listeners: list[tuple[tuple[str, ...], MemoryObjectSendStream[Event]]] = []
        self._descriptor: int | None = None
        #: Devices by id, with all they were given.
        self.devices: dict[str, dict[str, Any]] = {}
        #: Block back ends by node name, and descriptors by name.
        self.nodes: dict[str, dict[str, Any]] = {}
        self.descriptors: dict[str, int] = {}
        #: All commands, in order.
        self.commands: list[tuple[str, dict[str, Any]]] = []
        #: Answers of commands that have no effect here.
        self.answers: dict[str, Any] = {}
        #: What is raised for a command, by its name: QEMU's words.
        self.errors: dict[str, str] = {}
        #: Commands that have their effect at once, and whose answers wait for an event.
        self.late: dict[str, anyio.Event] = {}
        #: Commands that have their effect, and are not answered in time.
        self.unanswered: set[str] = set()
        #: Ids that the guest keeps for ever, and those that it refuses to give up.
        self.clung: set[str] = set()
        self.refused: set[str] = set()
        #: vCPUs the VM booted with, and places for all.
        self.booted_cpus, self.cpu_places = 1, 4
        #: Memory back ends by id, and what virtio-mem has, the guest taking and giving back at most to its bounds.
        self.memory: dict[str, dict[str, Any]] = {}
        self.virtio_mem = 0
        self.virtio_mem_bounds = (0, 1 << 60)

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        self._require(command)
        await anyio.lowlevel.checkpoint()
        given = dict(arguments or {})
        self.commands.append((command, given))
        if command in self.errors:
            raise QmpError(f"QMP {command}: GenericError: {self.errors[command]}")
        effect = getattr(self, "_" + command.replace("-", "_"), None)
        answer = effect(given) if effect else self.answers.get(command, {})
        if command in self.unanswered:
            raise QmpError(f"QMP {command}: no answer within 5 s")
        if command in self.late:
            await self.late[command].wait()
        return answer

    @asynccontextmanager
    async def listening(self, *names: str) -> AsyncIterator[_Heard]:
        self._require("listen")
        send, receive = anyio.create_memory_object_stream[Event](100)
        entry = (names, send)
        self._listeners.append(entry)
        try:
            with send, receive:
                yield _Heard(receive)
        finally:
            self._listeners.remove(entry)

    async def send_descriptor(self, fd: int) -> None:
        self._require("getfd")
        self._descriptor = fd

    def tell(self, name: str, **data: Any) -> None:
        """Let an event happen."""
        for names, stream in self._listeners:
            if name in names:
                stream.send_nowait((name, data))

    def _device_add(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["id"] in self.devices:
            raise QmpError(f"QMP device_add: GenericError: Duplicate device ID '{given['id']}'")
        self.devices[given["id"]] = given
        return {}

    def _device_del(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["id"]
        if name not in self.devices:
            raise QmpError(f"QMP device_del: DeviceNotFound: Device '{name}' not found")
        if name in self.refused:
            self.tell("DEVICE_UNPLUG_GUEST_ERROR", device=name, path=f"/machine/peripheral/{name}")
        elif name not in self.clung:
            del self.devices[name]
            self.tell("DEVICE_DELETED", path=f"/machine/peripheral/{name}/child")
            self.tell("DEVICE_DELETED", device=name, path=f"/machine/peripheral/{name}")
        return {}

    def _query_hotpluggable_cpus(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        places: list[dict[str, Any]] = []
        for number in range(self.cpu_places):
            place: dict[str, Any] = {"type": "max-x86_64-cpu", "vcpus-count": 1, "props": {"socket-id": number}}
            if number < self.booted_cpus:
                place["qom-path"] = f"/machine/unattached/device[{number}]"
            for name, device in self.devices.items():
                if device.get("socket-id") == number:
                    place["qom-path"] = f"/machine/peripheral/{name}"
            places.insert(0, place)
        return places

    def _object_add(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["id"] in self.memory:
            raise QmpError(f"QMP object-add: GenericError: attempt to add duplicate property '{given['id']}' to object")
        self.memory[given["id"]] = given
        return {}

    def _object_del(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.memory.pop(given["id"], None) is None:
            raise QmpError(f"QMP object-del: GenericError: object '{given['id']}' not found")
        return {}

    def _qom_set(self, given: dict[str, Any]) -> dict[str, Any]:
        least, most = self.virtio_mem_bounds
        self.virtio_mem = min(max(given["value"], least), most)
        self.tell("MEMORY_DEVICE_SIZE_CHANGE", id="virtiomem0", size=self.virtio_mem)
        return {}

    def _qom_get(self, given: dict[str, Any]) -> int:
        return self.virtio_mem

    def _blockdev_add(self, given: dict[str, Any]) -> dict[str, Any]:
        self.nodes[given["node-name"]] = given
        return {}

    def _blockdev_del(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.nodes.pop(given["node-name"], None) is None:
            raise QmpError(f"QMP blockdev-del: GenericError: Failed to find node with node-name='{given['node-name']}'")
        return {}

    def _getfd(self, given: dict[str, Any]) -> dict[str, Any]:
        if self._descriptor is None:
            raise QmpError("QMP getfd: GenericError: No file descriptor supplied via SCM_RIGHTS")
        self.descriptors[given["fdname"]] = self._descriptor
        self._descriptor = None
        return {}


class _Heard:
    """The events of one listener."""

    def __init__(self, stream: MemoryObjectReceiveStream[Event]) -> None:
        self._stream = stream

    async def get(self) -> Event:
        return await self._stream.receive()
