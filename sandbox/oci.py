"""The OCI runtime-spec's config.json as typed values, checked when it is read.

Only what a Linux container in a VM can use is kept; unknown keys are ignored, as the specification asks. Field meanings
are those of runtime-spec 1.2 `config.md` and `config-linux.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from sandbox.errors import InvalidArgumentError

#: Larger files are not specifications.
MAX_SPEC_BYTES = 16 << 20
#: More hooks of one kind than this are a mistake; so is a timeout of more than a day, in seconds.
MAX_HOOKS = 64
MAX_HOOK_TIMEOUT = 86400


class Struct(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Base of all parts: immutable, camelCase on disk."""


class Box(Struct, frozen=True):
    """Size of a terminal in characters."""

    height: int = 0
    width: int = 0


class User(Struct, frozen=True):
    """Who a process runs as, in the container's own numbers."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: list[int] = []
    username: str = ""


class Capabilities(Struct, frozen=True):
    """The five capability sets, as CAP_* names."""

    bounding: list[str] = []
    effective: list[str] = []
    inheritable: list[str] = []
    permitted: list[str] = []
    ambient: list[str] = []


class Rlimit(Struct, frozen=True):
    """One POSIX resource limit."""

    type: str
    hard: int = 0
    soft: int = 0


class Process(Struct, frozen=True):
    """What to run and as what."""

    cwd: str = "/"
    args: list[str] = []
    env: list[str] = []
    terminal: bool = False
    console_size: Box | None = None
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: list[Rlimit] = []
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    oom_score_adj: int | None = None
    selinux_label: str = ""


class Root(Struct, frozen=True):
    """The root file system; `path` is relative to the bundle or absolute."""

    path: str
    readonly: bool = False


class SpecMount(Struct, frozen=True):
    """A mount inside the container."""

    destination: str
    type: str = ""
    source: str = ""
    options: list[str] = []


class Hook(Struct, frozen=True):
    """A command of the lifecycle; `timeout` in seconds."""

    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class Hooks(Struct, frozen=True):
    """Hooks by the moment they run at."""

    prestart: list[Hook] = []
    create_runtime: list[Hook] = []
    create_container: list[Hook] = []
    start_container: list[Hook] = []
    poststart: list[Hook] = []
    poststop: list[Hook] = []


class Namespace(Struct, frozen=True):
    """A namespace to make (no path) or to join."""

    type: str
    path: str = ""


class Device(Struct, frozen=True):
    """A device node to make in the container."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceRule(Struct, frozen=True):
    """A rule of the device cgroup; absent numbers are wildcards."""

    allow: bool
    type: str = ""
    major: int | None = None
    minor: int | None = None
    access: str = ""


class Memory(Struct, frozen=True):
    """Memory limits in bytes; -1 is unlimited."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = msgspec.field(default=None, name="kernelTCP")
    swappiness: int | None = None
    disable_oom_killer: bool = msgspec.field(default=False, name="disableOOMKiller")


class Cpu(Struct, frozen=True):
    """CPU limits; quota and period in microseconds, `cpus` and `mems` as lists of the host."""

    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""


class Pids(Struct, frozen=True):
    """Limit on the number of tasks."""

    limit: int = 0


class HugepageLimit(Struct, frozen=True):
    """Limit in bytes for one size of huge pages."""

    page_size: str
    limit: int = 0


class BlockIo(Struct, frozen=True):
    """Block I/O weight; limits by device number mean nothing in the guest, whose devices have other numbers."""

    weight: int | None = None
    leaf_weight: int | None = None


class Resources(Struct, frozen=True):
    """`linux.resources`."""

    devices: list[DeviceRule] = []
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: list[HugepageLimit] = []
    #: Files of cgroup v2 by name.
    unified: dict[str, str] = {}


class SeccompArg(Struct, frozen=True):
    """A condition on a system call's argument."""

    index: int
    value: int
    op: str
    value_two: int = 0


class SeccompSyscall(Struct, frozen=True):
    """What to do for some system calls."""

    names: list[str]
    action: str
    errno_ret: int | None = None
    args: list[SeccompArg] = []


class Seccomp(Struct, frozen=True):
    """`linux.seccomp`."""

    default_action: str
    architectures: list[str] = []
    flags: list[str] = []
    syscalls: list[SeccompSyscall] = []


class Linux(Struct, frozen=True):
    """The Linux part of a specification."""

    namespaces: list[Namespace] = []
    devices: list[Device] = []
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    seccomp: Seccomp | None = None
    sysctl: dict[str, str] = {}
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    mount_label: str = ""


class Spec(Struct, frozen=True):
    """One config.json."""

    root: Root
    process: Process | None = None
    oci_version: str = "1.0.0"
    hostname: str = ""
    mounts: list[SpecMount] = []
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
    linux: Linux = Linux()


T = TypeVar("T", Spec, Process, Resources)


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Decode JSON into `kind`; raises `InvalidArgumentError` that names `what` and the faulty value."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{what}: {error}") from error


def load_spec(bundle: Path) -> Spec:
    """Read and check the bundle's config.json."""
    path = bundle / "config.json"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_SPEC_BYTES:
        raise InvalidArgumentError(f"{path} is larger than {MAX_SPEC_BYTES >> 20} MiB")
    spec = decode(data, Spec, str(path))
    if spec.process is not None:
        check_process(spec.process, str(path))
    if spec.hooks is not None:
        check_hooks(spec.hooks, str(path))
    return spec


def check_hooks(hooks: Hooks, what: str) -> None:
    """Raise `InvalidArgumentError` for hooks that the specification forbids, or that nobody can run."""
    for kind in hooks.__struct_fields__:
        group: list[Hook] = getattr(hooks, kind)
        if len(group) > MAX_HOOKS:
            raise InvalidArgumentError(f"{what}: {len(group)} {kind} hooks; at most {MAX_HOOKS} are allowed")
        for hook in group:
            _check_hook(hook, f"{what}: {kind} hook {hook.path[:200]!r}")


def _check_hook(hook: Hook, what: str) -> None:
    if not hook.path.startswith("/"):
        raise InvalidArgumentError(f"{what}: the path is not absolute")
    if hook.timeout is not None and not 0 < hook.timeout <= MAX_HOOK_TIMEOUT:
        raise InvalidArgumentError(f"{what}: timeout {hook.timeout} is not from 1 to {MAX_HOOK_TIMEOUT} seconds")
    if any("\0" in text for text in (hook.path, *hook.args, *hook.env)):
        raise InvalidArgumentError(f"{what}: path, args and env must not hold NUL")
    if any(item.startswith("=") or "=" not in item for item in hook.env):
        raise InvalidArgumentError(f"{what}: env must be a list of NAME=value")


def check_process(process: Process, what: str) -> None:
    """Raise `InvalidArgumentError` for a process nobody can run."""
    if not process.args:
        raise InvalidArgumentError(f"{what}: process.args is empty")
    if not process.cwd.startswith("/"):
        raise InvalidArgumentError(f"{what}: process.cwd {process.cwd!r} is not an absolute path")
    if any("\0" in text for text in (*process.args, *process.env)):
        raise InvalidArgumentError(f"{what}: process.args and process.env must not hold NUL")
