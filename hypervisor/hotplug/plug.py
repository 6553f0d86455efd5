"""Adding devices to a running VM and removing them, over QMP; what kind of device it is, is its caller's.

QMP reference: `device_add` answers when the device is there for the guest to find. `device_del` only asks the guest to
let go; that it has is told by the event DEVICE_DELETED, and that it will not by DEVICE_UNPLUG_GUEST_ERROR.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import anyio

from hypervisor.errors import HypervisorError, QmpError, VmGoneError
from hypervisor.hotplug.slots import PciSlots

#: Seconds for the guest to let go of a device. Its kernel's own slowness is a second or two under TCG.
UNPLUG_TIMEOUT = 10.0
_DELETED = "DEVICE_DELETED"
_REFUSALS = ("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR")
_NOT_FOUND = "DeviceNotFound"


class Events(Protocol):
    """The events of some names, from the moment they are listened for."""

    async def get(self) -> tuple[str, Mapping[str, Any]]:
        """Wait for the next one: its name and data."""


class Monitor(Protocol):
    """What is needed of a VM: its QMP, with its own errors."""

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        """Run a command. Raises `IllegalStateError` before the start, `VmGoneError` after the end, `QmpError`."""

    def listening(self, *names: str) -> AbstractAsyncContextManager[Events]:
        """Listen for events of these names while inside: none that comes meanwhile is missed. Errors as `execute`."""

    async def send_descriptor(self, fd: int) -> None:
        """Send a descriptor along with the next command, which takes it up; `fd` stays the caller's."""


class Hotplug:
    """The hot-plug side of one VM: legal while it runs. `slots` says which PCI slots are free."""

    def __init__(self, monitor: Monitor, slots: PciSlots) -> None:
        self.slots = slots
        self._monitor = monitor
        #: Held from a descriptor on its way to the command that takes it up.
        self._passing = anyio.Lock()

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Any:
        """Run a QMP command: for back ends (`netdev_add`, `blockdev-add`, `object-add`) and questions (`query-...`)."""
        return await self._monitor.execute(command, arguments, timeout)

    def listening(self, *names: str) -> AbstractAsyncContextManager[Events]:
        """Listen for QMP events of these names while inside."""
        return self._monitor.listening(*names)

    async def pass_descriptor(self, name: str, fd: int) -> None:
        """Have QEMU know a copy of `fd` as `name` (QMP `getfd`), until a back end takes it or `closefd`."""
        async with self._passing:
            await self._monitor.send_descriptor(fd)
            await self._monitor.execute("getfd", {"fdname": name})

    async def add(self, driver: str, device_id: str, properties: Mapping[str, Any]) -> None:
        """Plug in a device; raises `HypervisorError` that names it, and it is not there then."""
        try:
            await self._monitor.execute("device_add", {"driver": driver, "id": device_id, **properties})
        except QmpError as error:
            raise HypervisorError(f"plug in {driver} {device_id}: {error}") from error

    async def remove(self, device_id: str, timeout: float = UNPLUG_TIMEOUT) -> None:
        """Have the guest let go of a device and wait until it is gone; one that isn't there is gone already.

        Raises `HypervisorError` when the guest refuses, or does nothing for `timeout` seconds: it still has it then.
        """
        try:
            async with self._monitor.listening(_DELETED, *_REFUSALS) as events:
                with anyio.fail_after(timeout):
                    await self._monitor.execute("device_del", {"id": device_id})
                    await _gone(events, device_id)
        except TimeoutError as error:
            raise HypervisorError(f"unplug {device_id}: the guest did not let go of it within {timeout:g} s") from error
        except QmpError as error:
            if _NOT_FOUND not in str(error):
                raise HypervisorError(f"unplug {device_id}: {error}") from error

    async def discard(self, device_id: str, timeout: float = UNPLUG_TIMEOUT) -> HypervisorError | None:
        """`remove` where nothing more can be done: a VM that is gone has let go of it, other errors are returned."""
        try:
            await self.remove(device_id, timeout)
        except VmGoneError:
            return None
        except HypervisorError as error:
            return error
        return None


async def _gone(events: Events, device_id: str) -> None:
    while True:
        name, data = await events.get()
        if data.get("device") != device_id:
            continue
        if name == _DELETED:
            return
        raise HypervisorError(f"unplug {device_id}: the guest refused: {data.get('msg') or name}")
