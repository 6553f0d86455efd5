"""A VM's network interface: virtio-net on tap descriptors that somebody else has opened.

QEMU opens no device and runs no script for it: it is handed one tap descriptor per queue pair, and where the host's
kernel moves the packets itself (vhost-net) one descriptor of that per queue pair too. Names of properties are QEMU's
(`-netdev tap`, `-device virtio-net-pci,help`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypervisor.arguments import Value, option
from hypervisor.errors import HypervisorError
from hypervisor.hotplug.slots import PciSlot

DRIVER = "virtio-net-pci"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_ID = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class Nic:
    """One interface. `taps` and `vhosts` are open descriptors, one per queue pair; `vhosts` is empty without vhost-net.

    `slot` is where it goes: on a bridge, for from the root bus nothing can be unplugged; QEMU chooses if it is None.
    The device announces no MTU: the guest could never set a larger one, and the agent sets the right one anyway.
    """

    id: str
    mac: str
    taps: tuple[int, ...]
    vhosts: tuple[int, ...] = ()
    slot: PciSlot | None = None

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id) or not _MAC.fullmatch(self.mac):
            raise HypervisorError(f"network interface {self.id!r} with hardware address {self.mac!r} is malformed")
        if not self.taps or len(self.vhosts) not in (0, len(self.taps)):
            raise HypervisorError(
                f"network interface {self.id}: {len(self.taps)} taps and {len(self.vhosts)} vhost descriptors"
            )

    @property
    def netdev(self) -> str:
        """QEMU's name of the back end."""
        return f"net-{self.id}"

    @property
    def fds(self) -> tuple[int, ...]:
        """All descriptors, those of the taps first."""
        return (*self.taps, *self.vhosts)

    @property
    def properties(self) -> dict[str, Value]:
        """The device's properties but for its id, with a vector for each queue, for control and for configuration."""
        queues: dict[str, Value] = {"mq": True, "vectors": 2 * len(self.taps) + 2} if len(self.taps) > 1 else {}
        return {"netdev": self.netdev, "mac": self.mac, **queues, **(self.slot.properties if self.slot else {})}

    def arguments(self) -> list[str]:
        """`-netdev tap` and its device, without the option ROM, for nobody boots from it."""
        backend: dict[str, Value] = {
            "id": self.netdev,
            "fds": ":".join(map(str, self.taps)),
            "vhost": bool(self.vhosts),
            "vhostfds": ":".join(map(str, self.vhosts)) or None,
        }
        flag, device = option("-device", DRIVER, {"id": self.id, **self.properties})
        return [*option("-netdev", "tap", backend), flag, f"{device},romfile="]
