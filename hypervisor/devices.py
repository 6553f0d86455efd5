"""The parts of a VM as typed data, each with the arguments that make QEMU create it.

All renderings are pure. Names of options and properties are QEMU's own (qemu(1), `qemu-system-x86_64 -device X,help`);
what is set to other than its default has its reason here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hypervisor.arguments import Value, absolute, option

#: Serial number of the root image's disk, by which the guest finds it whatever else is plugged in.
IMAGE_SERIAL = "kata-image"
#: Name of the agent's virtio-serial port in the guest: /dev/virtio-ports/kata.agent.0.
AGENT_PORT = "kata.agent.0"
#: Slot of the first PCI bridge on the root bus; the others follow.
FIRST_BRIDGE_SLOT = 2
#: Identifier of the memory backend, in the machine's properties and for later hot-plug.
RAM_ID = "ram"
#: Identifier of the virtio-mem device.
VIRTIO_MEM_ID = "virtiomem0"


def bridge_id(index: int) -> str:
    """QEMU's name of a PCI bridge, which is that of its bus too."""
    return f"pci-bridge-{index}"


class Device(Protocol):
    """Anything that has its share of the command line."""

    def arguments(self) -> list[str]:
        """The share, as a list of arguments."""


@dataclass(frozen=True)
class Machine:
    """The q35 board without what a pod never uses: each device less is less to emulate, probe and attack."""

    type: str = "q35"

    def arguments(self) -> list[str]:
        """`-machine`; guest memory stays out of core dumps of QEMU, for it is not ours to spill."""
        unused: dict[str, Value] = dict.fromkeys(("sata", "smbus", "usb", "vmport", "hpet"), False)
        return option("-machine", self.type, {"memory-backend": RAM_ID, "dump-guest-core": False, **unused})


@dataclass(frozen=True)
class Accelerator:
    """What runs the guest's instructions: `kvm` or `tcg`, and the CPU model that fits it."""

    name: str
    cpu_features: str = ""

    def arguments(self) -> list[str]:
        """`-accel` and `-cpu`.

        TCG: one host thread per vCPU, and a bound on the translated code (QEMU's default is up to 1 GiB per VM).
        Its `max` model costs no time over the plain ones, and has RDRAND: a guest without it waits for entropy.
        """
        model = "host" if self.name == "kvm" else "max"
        # The features are QEMU's own comma-separated list, so their commas are syntax.
        cpu = ",".join([model, *filter(None, self.cpu_features.split(","))])
        properties: dict[str, Value] = {"thread": "multi", "tb-size": 256} if self.name == "tcg" else {}
        return [*option("-accel", self.name, properties), *option("-cpu", cpu)]


@dataclass(frozen=True)
class Cpus:
    """`count` vCPUs now, up to `maximum` later; one socket per vCPU, so that each can be plugged alone."""

    count: int
    maximum: int

    def arguments(self) -> list[str]:
        """`-smp`."""
        topology: dict[str, Value] = {"sockets": self.maximum, "cores": 1, "threads": 1, "maxcpus": self.maximum}
        return option("-smp", str(self.count), topology)


@dataclass(frozen=True)
class Memory:
    """Guest RAM in a memfd that vhost-user daemons can map; sizes in MiB. `maximum` 0 means no hot-plug."""

    size: int
    maximum: int = 0
    slots: int = 0
    #: A file to have the memory in; `is_shared`: to write to that file, not to a private view of it.
    file: Path | None = None
    is_shared: bool = True

    def arguments(self) -> list[str]:
        """`-object` and `-m`: a memfd needs no file system, and no /dev/shm to be large enough."""
        hotplug: dict[str, Value] = (
            {"slots": self.slots, "maxmem": f"{self.maximum}M"} if self.maximum > self.size else {}
        )
        backend: dict[str, Value] = {"id": RAM_ID, "size": f"{self.size}M", "share": self.is_shared}
        if self.file is not None:
            backend["mem-path"] = absolute(self.file, "memory")
        return [
            *option("-object", "memory-backend-memfd" if self.file is None else "memory-backend-file", backend),
            *option("-m", None, {"size": f"{self.size}M", **hotplug}),
        ]


@dataclass(frozen=True)
class VirtioMem:
    """Room for `size` MiB of further memory, none of it plugged in at first."""

    size: int

    def arguments(self) -> list[str]:
        """`-object` and `-device virtio-mem-pci`: its pages are the host's only once the guest has them."""
        backend: dict[str, Value] = {"id": "virtiomem-ram", "size": f"{self.size}M", "share": True, "reserve": False}
        device: dict[str, Value] = {"id": VIRTIO_MEM_ID, "memdev": "virtiomem-ram", "requested-size": 0}
        return [*option("-object", "memory-backend-memfd", backend), *option("-device", "virtio-mem-pci", device)]


@dataclass(frozen=True)
class Balloon:
    """A balloon that is never blown up: through it the guest tells which of its pages are free (page reporting)."""

    def arguments(self) -> list[str]:
        """`-device virtio-balloon-pci`."""
        properties: dict[str, Value] = {"deflate-on-oom": True, "free-page-reporting": True}
        return option("-device", "virtio-balloon-pci", properties)


@dataclass(frozen=True)
class PciBridge:
    """A bridge with 31 slots for later hot-plug, at a fixed address so that the guest's PCI paths are known."""

    index: int

    def arguments(self) -> list[str]:
        """`-device pci-bridge`; slots are plugged through ACPI, so without its own hot-plug controller (SHPC)."""
        properties: dict[str, Value] = {
            "id": bridge_id(self.index),
            "bus": "pcie.0",
            "chassis_nr": self.index + 1,
            "shpc": False,
            "addr": f"{FIRST_BRIDGE_SLOT + self.index:#x}",
            "io-reserve": "4k",
            "mem-reserve": "1m",
            "pref64-reserve": "1m",
        }
        return option("-device", "pci-bridge", properties)


@dataclass(frozen=True)
class RootPort:
    """A PCIe root port for one device that needs PCIe (VFIO). Each costs some 15 ms of a boot under TCG."""

    index: int

    def arguments(self) -> list[str]:
        """`-device pcie-root-port`; chassis 0 belongs to the ports, numbered by slot, as bridges have their own."""
        properties: dict[str, Value] = {"id": f"rp{self.index}", "bus": "pcie.0", "chassis": 0, "slot": self.index}
        return option("-device", "pcie-root-port", properties)


@dataclass(frozen=True)
class Rng:
    """Entropy from the host's `source`."""

    source: Path

    def arguments(self) -> list[str]:
        """`-object rng-random` and its virtio device."""
        return [
            *option("-object", "rng-random", {"id": "rng0", "filename": absolute(self.source, "entropy source")}),
            *option("-device", "virtio-rng-pci", {"rng": "rng0"}),
        ]


@dataclass(frozen=True)
class RootImage:
    """The guest's root image as a read-only disk; any number of VMs share one file and its page cache."""

    path: Path

    def arguments(self) -> list[str]:
        """`-blockdev` without image locks (nobody writes), and its virtio-blk device."""
        backend: dict[str, Value] = {
            "driver": "raw",
            "node-name": "image",
            "read-only": True,
            "file.driver": "file",
            "file.filename": absolute(self.path, "image"),
            "file.locking": False,
        }
        return [
            *option("-blockdev", None, backend),
            *option("-device", "virtio-blk-pci", {"drive": "image", "serial": IMAGE_SERIAL}),
        ]


@dataclass(frozen=True)
class SharedFs:
    """virtio-fs: the daemon listens on `socket`; the guest mounts `tag`. `cache_size_mib` is the DAX window, if any."""

    socket: Path
    tag: str
    queue_size: int
    cache_size_mib: int = 0

    def arguments(self) -> list[str]:
        """`-chardev` and `-device vhost-user-fs-pci`."""
        properties: dict[str, Value] = {
            "chardev": "fs0",
            "tag": self.tag,
            "queue-size": self.queue_size,
            "cache-size": f"{self.cache_size_mib}M" if self.cache_size_mib else None,
        }
        return [
            *option("-chardev", "socket", {"id": "fs0", "path": absolute(self.socket, "shared fs socket")}),
            *option("-device", "vhost-user-fs-pci", properties),
        ]


@dataclass(frozen=True)
class NinepFs:
    """virtio-9p: QEMU itself serves the host's directory `path`, as its own mount namespace shows it, under `tag`."""

    path: Path
    tag: str

    def arguments(self) -> list[str]:
        """`-fsdev` and `-device virtio-9p-pci`.

        Owners and modes are the host's own; several file systems below `path` must not share inode numbers.
        """
        backend: dict[str, Value] = {
            "id": "fs0",
            "path": absolute(self.path, "shared directory"),
            "security_model": "none",
            "multidevs": "remap",
        }
        return [
            *option("-fsdev", "local", backend),
            *option("-device", "virtio-9p-pci", {"fsdev": "fs0", "mount_tag": self.tag}),
        ]


@dataclass(frozen=True)
class AgentSerial:
    """The agent's virtio-serial port behind an inherited, already listening UNIX socket."""

    listener_fd: int

    def arguments(self) -> list[str]:
        """Nobody has to be connected for the guest to run, and a client may connect before QEMU is up."""
        chardev: dict[str, Value] = {"id": "agent", "fd": self.listener_fd, "server": True, "wait": False}
        port: dict[str, Value] = {"bus": "serial0.0", "nr": 1, "chardev": "agent", "name": AGENT_PORT}
        return [
            *option("-device", "virtio-serial-pci", {"id": "serial0", "max_ports": 2}),
            *option("-chardev", "socket", chardev),
            *option("-device", "virtserialport", port),
        ]


@dataclass(frozen=True)
class AgentVsock:
    """vsock with an address that is already claimed on the inherited /dev/vhost-vsock descriptor."""

    guest_cid: int
    vhost_fd: int

    def arguments(self) -> list[str]:
        """`-device vhost-vsock-pci`."""
        return option(
            "-device", "vhost-vsock-pci", {"id": "vsock0", "vhostfd": self.vhost_fd, "guest-cid": self.guest_cid}
        )


@dataclass(frozen=True)
class Console:
    """The guest's first serial port on an inherited, connected socket: no file that could grow, no path to guess."""

    fd: int

    def arguments(self) -> list[str]:
        """`-serial` on a character device of its own."""
        return [*option("-chardev", "socket", {"id": "console", "fd": self.fd}), *option("-serial", "chardev:console")]


@dataclass(frozen=True)
class Monitor:
    """QMP on an inherited, connected socket: when QEMU ends, for whatever reason, our end reads end of file."""

    fd: int
    #: Another than the first for a second one.
    id: str = "qmp"

    def arguments(self) -> list[str]:
        """`-chardev` and `-mon` in control mode."""
        return [
            *option("-chardev", "socket", {"id": self.id, "fd": self.fd}),
            *option("-mon", None, {"chardev": self.id, "mode": "control"}),
        ]


@dataclass(frozen=True)
class PanicNotifier:
    """pvpanic: lets a guest with that driver tell of a kernel panic at once (QMP event GUEST_PANICKED)."""

    def arguments(self) -> list[str]:
        """`-device pvpanic`."""
        return option("-device", "pvpanic")
