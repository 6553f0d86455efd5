"""The contract of a VM: what one is made of, and what may be asked of it when.

| method                     | before `start`            | while it runs   | after its end                         |
|----------------------------|---------------------------|-----------------|---------------------------------------|
| `start`                    | once                      | illegal         | illegal                               |
| `agent_url`                | illegal                   | legal           | what it was, if it ever ran           |
| `pid`                      | 0                         | QEMU's          | what it was                           |
| `wait`                     | illegal                   | waits           | returns the same `VmExit` at once     |
| `pause` `resume` `status`  | illegal                   | legal           | `VmGoneError` with the reason         |
| verbs of `hotplug`         | illegal                   | legal           | `VmGoneError` with the reason         |
| `shutdown` `kill`          | legal: it can't start now | legal           | nothing happens                       |
| `diagnostics`              | legal, empty              | legal           | legal, complete                       |

"Illegal" is an `IllegalStateError`: a mistake of the caller. `start` counts as running from its first step: a `kill`
from another task ends it. A VM that has ended holds nothing any more: no descriptor, no socket, no file in its run
directory. It is not started again; a new one is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hypervisor.devices import NinepFs, SharedFs
from hypervisor.hotplug.plug import Hotplug
from hypervisor.nics import Nic

AcceleratorName = Literal["kvm", "tcg"]
AgentChannel = Literal["virtio-serial", "vsock"]

#: The unit of memory hot-plug of an x86 guest, in MiB (of guests below 64 GiB).
MEMORY_BLOCK_MIB = 128
#: The vsock port Kata's agent listens on.
AGENT_VSOCK_PORT = 1024

#: Called with the pid of a new process before anything is waited for, so that it can be undone from disk.
OnSpawn = Callable[[int], None]


@dataclass(frozen=True)
class SavedState:
    """What a VM is restored from in place of a boot: open files, which stay the caller's until `start` returns.

    `memory` is the guest's RAM. If `is_shared` the VM writes to that very file, and a vhost-user daemon can map it;
    else it has a private view of it. `state` is that of its devices, as `hypervisor.template.migration` saves it.
    `complete` returns once `memory` has its contents; QEMU can start without, but not read the state.
    """

    memory: int
    state: int
    is_shared: bool
    complete: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True)
class VmSpec:
    """All a VM is. Sizes in MiB; paths absolute. At least one of `initrd` and `image` is the guest's userland."""

    name: str
    #: An existing directory for this VM's sockets; also QEMU's working directory.
    run_dir: Path
    qemu: Path
    kernel: Path
    vcpus: int
    memory_mib: int
    #: Resolved already: see `hypervisor.accelerator`.
    accelerator: AcceleratorName
    initrd: Path | None = None
    image: Path | None = None
    #: File system in the first partition of an `image` that boots without an `initrd`.
    image_type: str = "ext4"
    #: Added behind the machine's own, so they win.
    kernel_params: tuple[str, ...] = ()
    agent_channel: AgentChannel = "virtio-serial"
    #: Ceilings of hot-plug; 0 means what it starts with.
    max_vcpus: int = 0
    max_memory_mib: int = 0
    memory_slots: int = 10
    #: Whether memory up to the ceiling comes by a virtio-mem device, not by DIMMs.
    virtio_mem: bool = False
    #: Whether the guest gives pages that it does not use back to the host.
    free_page_reporting: bool = False
    machine_type: str = "q35"
    #: QEMU's own comma-separated list, e.g. `pmu=off`.
    cpu_features: str = ""
    #: The file system that is shared with the guest. virtiofsd, where that serves it, must listen when the VM starts.
    shared_fs: SharedFs | NinepFs | None = None
    entropy_source: Path = Path("/dev/urandom")
    #: QEMU's `-sandbox` argument, e.g. `on,obsolete=deny,spawn=deny`; empty for none.
    seccomp_sandbox: str = ""
    pci_bridges: int = 1
    pcie_root_ports: int = 0
    #: Network interfaces from the start on: their descriptors are not the VM's own, see `Vm.start`.
    nics: tuple[Nic, ...] = ()
    #: Where its memory is, if not in a memfd: it stays there when the VM has ended.
    ram_file: Path | None = None
    #: What it is restored from. Such a VM is stopped when it has started, and runs from `resume` on.
    saved: SavedState | None = None
    #: Let the guest's kernel talk, and log its console and QEMU's standard error line by line.
    debug: bool = False

    @property
    def virtio_mem_mib(self) -> int:
        """Size of the virtio-mem device, in whole memory blocks of the guest; 0 if there is none."""
        room = self.max_memory_mib - self.memory_mib if self.virtio_mem else 0
        return max(0, room) // MEMORY_BLOCK_MIB * MEMORY_BLOCK_MIB


@dataclass(frozen=True)
class VmExit:
    """How a VM ended: exit status or else signal of its process (both None if it never ran), and why, in one line."""

    returncode: int | None
    signal: int | None
    reason: str


@dataclass(frozen=True)
class Diagnostics:
    """The last that QEMU and the guest said; several lines each, bounded, not to be trusted."""

    stderr_tail: str = ""
    console_tail: str = ""


class Vm(ABC):
    """One virtual machine. See the module's table for what is legal when."""

    @property
    @abstractmethod
    def agent_url(self) -> str:
        """Where the guest's agent is: connectable once `start` has spawned the VM, answered when the guest is up."""

    @property
    @abstractmethod
    def hotplug(self) -> Hotplug:
        """What adds devices to it and removes them; one and the same for the VM's whole life."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """Process id of the VM, 0 before there is one."""

    @property
    @abstractmethod
    def started(self) -> bool:
        """Whether `start` has succeeded and the VM has not ended since."""

    @abstractmethod
    async def start(self, timeout: float, nics: Sequence[Nic] = ()) -> None:
        """Launch it; returns when its monitor answers and its vCPUs run, which is long before the guest is up.

        A VM with a saved state is restored then, and its vCPUs are stopped.

        `nics` are there besides those of its spec; their descriptors stay the caller's, to be closed when this returns.

        Takes at most `timeout` seconds. Raises HypervisorError with the cause (what is missing, QEMU's exit status and
        last words, what the guest's console said); nothing is left then, nor when it is cancelled.
        """

    @abstractmethod
    async def wait(self) -> VmExit:
        """Return when the VM has ended, for whatever reason. Any number of callers, each may be cancelled."""

    @abstractmethod
    async def pause(self) -> None:
        """Stop all vCPUs; idempotent. Raises VmGoneError or QmpError."""

    @abstractmethod
    async def resume(self) -> None:
        """Let the vCPUs run on; idempotent. Raises VmGoneError or QmpError."""

    @abstractmethod
    async def status(self) -> str:
        """QMP's `RunState`: `running`, `paused`, `guest-panicked`, ... Raises VmGoneError or QmpError."""

    @abstractmethod
    async def shutdown(self, timeout: float) -> None:
        """End it in order, and by SIGKILL after `timeout` seconds. The agent has synced the guest's disks before.

        Idempotent; never raises because the VM is dead or dies on the way. Afterwards `wait` returns at once.
        """

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL, now, without waiting; idempotent. `wait` returns as soon as the kernel has taken it apart."""

    @abstractmethod
    def diagnostics(self) -> Diagnostics:
        """What QEMU and the guest's console said last."""
