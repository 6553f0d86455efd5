"""The shared file system (virtio-fs) plugged into a running VM: its daemon's socket, then the device on a PCI bridge.

QMP reference: `chardev-add`, `chardev-remove`. The VM's memory must be one that the daemon can map.
"""

from __future__ import annotations

from hypervisor.devices import SharedFs
from hypervisor.errors import HypervisorError, QmpError
from hypervisor.hotplug.plug import Hotplug

_ID = "fs0"
_DRIVER = "vhost-user-fs-pci"


async def plug(hotplug: Hotplug, fs: SharedFs) -> None:
    """Plug it in; raises `HypervisorError`, and nothing is left then."""
    address = {"type": "unix", "data": {"path": str(fs.socket)}}
    backend = {"type": "socket", "data": {"addr": address, "server": False}}
    slot = hotplug.slots.take(_ID)
    try:
        await hotplug.execute("chardev-add", {"id": _ID, "backend": backend})
        properties = {"chardev": _ID, "tag": fs.tag, "queue-size": fs.queue_size, **slot.properties}
        await hotplug.add(_DRIVER, "shared-fs", properties)
    except BaseException as error:
        hotplug.slots.give_back(slot)
        if isinstance(error, HypervisorError):
            await _remove_backend(hotplug)
        raise


async def _remove_backend(hotplug: Hotplug) -> None:
    try:
        await hotplug.execute("chardev-remove", {"id": _ID})
    except (HypervisorError, QmpError):
        # It may never have come to be, and a VM that is gone has none.
        return
