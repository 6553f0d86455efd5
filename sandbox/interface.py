"""The contract between the pod and who asks for it (the task service of the shim).

Plain values in and out, so that the service only translates messages, and a fake pod can stand in for a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol


class ProcessStatus(IntEnum):
    """Life of a process, with the numbers of `containerd.v1.types.Status`."""

    UNKNOWN = 0
    CREATED = 1
    RUNNING = 2
    STOPPED = 3
    PAUSED = 4
    PAUSING = 5


@dataclass(frozen=True)
class Mount:
    """One mount as containerd's snapshotter gives it (`containerd.types.Mount`)."""

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class StdioUris:
    """Where a process' streams go: FIFO paths or URIs; an empty string means none."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True)
class CreateRequest:
    """`Create` of a container; the first one of a pod makes the pod."""

    container_id: str
    bundle: Path
    rootfs: Sequence[Mount] = ()
    io: StdioUris = StdioUris()
    checkpoint: str = ""
    #: Path of the configuration that the task's own options name, if they do.
    config_path: Path | None = None
    #: The configuration itself, as TOML, if the task's own options are one.
    config_body: str = ""


@dataclass(frozen=True)
class ExecRequest:
    """`Exec` of a further process in a running container; `process` is the JSON of an OCI process."""

    container_id: str
    exec_id: str
    process: bytes
    io: StdioUris = StdioUris()


@dataclass(frozen=True)
class ProcessState:
    """What `State` answers; times are nanoseconds since the epoch, 0 while the process lives."""

    container_id: str
    exec_id: str
    bundle: Path
    pid: int
    status: ProcessStatus
    io: StdioUris
    exit_status: int = 0
    exited_at_ns: int = 0


@dataclass(frozen=True)
class ExitInfo:
    """How a process ended; `exited_at_ns` in nanoseconds since the epoch."""

    pid: int
    exit_status: int
    exited_at_ns: int


@dataclass(frozen=True)
class ProcessInfo:
    """One entry of `Pids`."""

    pid: int
    exec_id: str = ""


@dataclass(frozen=True)
class PodSettings:
    """What kubelet asks of a pod as a whole (CRI's `PodSandboxConfig`), where no container of its own says it.

    Limits are what the pod's containers may use together: CPU times in microseconds, memory in bytes, 0 for none.
    """

    hostname: str = ""
    #: Lines of the pod's resolv.conf.
    dns: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit: int = 0
    #: Those that are to be the host's, by OCI's names.
    host_namespaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class SandboxRequest:
    """`CreateSandbox` of the Sandbox API: a pod without a container of its own."""

    sandbox_id: str
    bundle: Path
    #: The network namespace that CNI has set up; empty for a pod in the host's network.
    netns_path: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    settings: PodSettings = PodSettings()
    config_path: Path | None = None
    config_body: str = ""


@dataclass(frozen=True)
class SandboxStatus:
    """A pod as `SandboxStatus` tells it; times are nanoseconds since the epoch, 0 for what has not been."""

    sandbox_id: str
    pid: int
    is_ready: bool
    created_at_ns: int
    exited_at_ns: int = 0
    #: The OCI spec, as JSON, that the pod's own container would have, if it had one.
    spec: bytes = b"{}"
    #: Facts for people.
    info: Mapping[str, str] = field(default_factory=dict)


class PodLife(Protocol):
    """The life of a pod that the Sandbox API drives: it begins before any container is in it, and outlives them.

    All methods raise `sandbox.errors.SandboxError` and nothing else: `NotFoundError` all but `create` where that has
    not been.
    """

    @property
    def exists(self) -> bool:
        """Whether `create` has been: then the pod lives on without containers, until the shim is told to end."""

    @property
    def is_waiting(self) -> bool:
        """Whether it was created and never was up, nor is about to be: nothing is lost with it."""

    async def create(self, request: SandboxRequest) -> None:
        """Check and keep what the pod is to be; AlreadyExists if there is one, or a container made one."""

    async def start(self, timeout: float | None) -> SandboxStatus:
        """Boot the VM, whole or not at all: it may be tried again. FailedPrecondition if it runs, or has run."""

    async def stop(self, grace: float) -> None:
        """End all containers and the VM; containers get SIGTERM and `grace` seconds first, if not 0. Idempotent."""

    async def wait(self) -> ExitInfo:
        """The pod's end, as soon as there is one: status 0 where it was asked for, 137 where the VM was lost."""

    async def update(self, resources: bytes | None, annotations: Mapping[str, str]) -> None:
        """Change what the containers may use together (an OCI `LinuxResources` JSON) and the pod's annotations.

        Whole or not at all. FailedPrecondition for more than the VM may have, for what a VM that runs can't take on,
        and once it has ended.
        """

    def status(self) -> SandboxStatus:
        """The pod now, from memory."""

    async def stats(self) -> Any:
        """The sum over the pod's containers, as the agent's `StatsContainerResponse`, bounded below 2 s."""


class Stdio(Protocol):
    """The host's end of one process' streams, already opened.

    Writes wait while the reader is slow and return when the data is handed over or nobody can ever read it.
    """

    @property
    def has_stdin(self) -> bool:
        """Whether there is a standard input to forward."""

    async def read_stdin(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end: the file ended, or `close_stdin` was called and all is read."""

    async def write_stdout(self, data: bytes) -> None:
        """Hand `data` to the reader of standard output."""

    async def write_stderr(self, data: bytes) -> None:
        """Hand `data` to the reader of standard error."""

    def close_stdin(self) -> None:
        """`CloseIO`: what is buffered is still read, then `read_stdin` returns empty."""

    async def aclose(self) -> None:
        """Flush and close every stream; idempotent; never hangs on a reader that is gone."""


class OpenStdio(Protocol):
    """Opens the streams of a process; raises `InvalidArgumentError` for a URI it does not know."""

    async def __call__(self, container_id: str, uris: StdioUris) -> Stdio:
        """Open what `uris` names."""


#: Publishes a message of `protos.gen.containerd.events`; returns at once, keeps the order of calls.
Publish = Callable[[Any], None]


@dataclass(frozen=True)
class SandboxIdentity:
    """Which pod this is, and for which containerd."""

    sandbox_id: str
    namespace: str
    containerd_address: str
    #: The socket the daemon serves, to be removed when the pod is gone.
    socket_path: Path
    #: Path of the configuration named at `start`, if one was.
    config_path: Path | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


class Pod(Protocol):
    """One sandbox and its containers. All methods raise `sandbox.errors.SandboxError` and nothing else.

    `state`, `task_pid` and `is_empty` answer from memory; `wait` never needs the guest to answer, and `pids` does with
    or without it, in half a second at most.
    An empty `exec_id` means the container's init process.
    """

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left that has to be served: no container (true as well before the first `Create`), and no
        sandbox of the Sandbox API.
        """

    @property
    def life(self) -> PodLife:
        """The pod as the Sandbox API knows it."""

    async def create(self, request: CreateRequest, timeout: float | None) -> int:
        """Make a container (and first the pod); returns the task's pid. Ends in one piece even if the caller goes."""

    async def start(self, container_id: str, exec_id: str) -> int:
        """Run what `create` or `exec` made; returns its pid."""

    async def exec(self, request: ExecRequest) -> None:
        """Register a further process; `start` runs it."""

    async def kill(self, container_id: str, exec_id: str, signal: int, everyone: bool) -> None:
        """Send `signal`; NotFound when the process has ended."""

    async def delete(self, container_id: str, exec_id: str) -> ExitInfo:
        """Forget a stopped process and free what it held."""

    async def wait(self, container_id: str, exec_id: str) -> ExitInfo:
        """The exit, as soon as there is one; at once if it has been."""

    def state(self, container_id: str, exec_id: str) -> ProcessState:
        """The process' state now."""

    async def pids(self, container_id: str) -> list[ProcessInfo]:
        """The VM's pid, and then the guest's processes (see `sandbox.guest_processes`) if it tells them in time.

        Never empty, and never an error, for a container that exists.
        """

    def task_pid(self, container_id: str) -> int:
        """Pid for `Connect`: that of the VM, 0 before there is one; never an error."""

    async def pause(self, container_id: str) -> None:
        """Freeze the container's processes."""

    async def resume(self, container_id: str) -> None:
        """Thaw them."""

    async def resize_pty(self, container_id: str, exec_id: str, width: int, height: int) -> None:
        """Set the terminal's size in characters."""

    async def close_io(self, container_id: str, exec_id: str) -> None:
        """Close standard input after what is buffered."""

    async def update(self, container_id: str, resources: bytes) -> None:
        """Apply an OCI `LinuxResources` JSON."""

    async def stats(self, container_id: str) -> Any:
        """The agent's `StatsContainerResponse` for the container, bounded below 2 s."""

    async def shutdown(self) -> None:
        """Tear down what is left of the pod (VM, helpers, mounts, run directory); idempotent."""
