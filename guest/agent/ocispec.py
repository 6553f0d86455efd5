"""OCI spec: from the protocol's `grpc.Spec` to the `config.json` that crun runs in this guest. Pure.

What differs from the host's spec, and why:

- root file system and bind mounts are guest paths below Kata's shared tree, the sandbox' tree, or devices of the
  guest; nothing of the agent's own root is handed to a container;
- ipc and uts namespaces are the sandbox', the network is the guest's own (so `net.` sysctls are the agent's to set),
  mount, cgroup and pid are new, pid is the sandbox' if it shares one;
- the cgroup is `/kata/<id>`, of cgroup v2, and its namespace is made whether or not the host, which may have cgroup v1,
  asks for it: programs look for their limits at the top of /sys/fs/cgroup;
- only createContainer and startContainer hooks are kept: the others run on the host;
- annotations that would steer crun (`run.oci.*`) are dropped, for they come from the pod's author.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guest.agent.errors import InvalidArgumentError, UnimplementedError
from guest.agent.layout import Layout, cgroups_path
from guest.agent.names import absolute_path, is_beneath, path_beneath
from guest.agent.ociprocess import process_json
from guest.agent.ociresources import resources_json
from guest.agent.ociseccomp import seccomp_json

if TYPE_CHECKING:
    from protos.lean.gen.grpc import Hook, Hooks, Linux, LinuxDevice, Mount, Spec

Json = dict[str, Any]

RUNTIME_SPEC_VERSION = "1.0.2"
MAX_MOUNTS = 1024
_CRUN_ANNOTATIONS = "run.oci."
#: File systems a container may mount afresh; each is confined by its namespaces or holds nothing of the agent's.
_FILE_SYSTEMS = frozenset({"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "hugetlbfs"})
_BIND_OPTIONS = frozenset({"bind", "rbind"})
_DEVICE_TYPES = frozenset({"b", "c", "u", "p"})
_PROPAGATIONS = frozenset(
    {"", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"}
)


class Surroundings:
    """What the translation needs to know of the guest: shared namespaces (paths), CPUs, the sandbox' hostname."""

    __slots__ = ("hostname", "ipc", "layout", "online_cpus", "pid", "uts")

    def __init__(
        self,
        layout: Layout,
        *,
        ipc: str,
        uts: str,
        pid: str = "",
        hostname: str = "",
        online_cpus: frozenset[int] = frozenset(),
    ) -> None:
        self.layout = layout
        self.ipc = ipc
        self.uts = uts
        #: Empty: the container gets a pid namespace of its own.
        self.pid = pid
        self.hostname = hostname
        self.online_cpus = online_cpus


def spec_json(spec: Spec | None, container_id: str, around: Surroundings) -> Json:
    """The content of config.json; raises `InvalidArgumentError` for what must not or can't be run."""
    if spec is None or spec.root is None or spec.linux is None:
        raise InvalidArgumentError(f"container {container_id}: the OCI spec lacks root or linux")
    root = path_beneath(spec.root.path, around.layout.shared_run, "root file system")
    result: Json = {
        "ociVersion": RUNTIME_SPEC_VERSION,
        "process": process_json(spec.process),
        "root": {"path": root, "readonly": spec.root.readonly},
        "mounts": _mounts(spec.mounts, around.layout),
        "linux": _linux(spec.linux, container_id, around),
        "annotations": {key: value for key, value in spec.annotations.items() if not key.startswith(_CRUN_ANNOTATIONS)},
    }
    if spec.hostname and not around.hostname:
        result["hostname"] = spec.hostname
    if spec.hooks is not None:
        result["hooks"] = _hooks(spec.hooks)
    return result


def network_sysctls(spec: Spec | None) -> dict[str, str]:
    """The `net.` sysctls, which the agent sets itself: the container lives in the guest's own network namespace."""
    linux = spec.linux if spec is not None else None
    settings = linux.sysctl if linux is not None else {}
    return {key: value for key, value in settings.items() if _is_network(key)}


def _is_network(key: str) -> bool:
    return key.startswith(("net.", "net/"))


def _mounts(mounts: list[Mount], layout: Layout) -> list[Json]:
    if len(mounts) > MAX_MOUNTS:
        raise InvalidArgumentError(f"{len(mounts)} mounts are too many")
    return [_mount(mount, layout) for mount in mounts]


def _mount(mount: Mount, layout: Layout) -> Json:
    destination = absolute_path(mount.destination, "mount destination")
    is_bind = mount.type == "bind" or not _BIND_OPTIONS.isdisjoint(mount.options)
    if is_bind:
        source = bind_source(mount.source, layout)
    elif mount.type in _FILE_SYSTEMS:
        source = mount.source or mount.type
        _check_overlay(mount, layout)
    else:
        raise InvalidArgumentError(f"mount on {destination}: a container may not mount {mount.type[:40]!r}")
    result: Json = {"destination": destination, "source": source, "options": list(mount.options)}
    if mount.type and mount.type != "bind":
        result["type"] = mount.type
    elif is_bind:
        result["type"] = "bind"
        if _BIND_OPTIONS.isdisjoint(mount.options):
            result["options"].append("rbind")
    return result


def bind_source(value: str, layout: Layout) -> str:
    """The source of a bind mount: in Kata's tree, or a device or kernel object; never the agent's root."""
    source = absolute_path(value, "mount source")
    if is_beneath(source, layout.shared_run) or is_beneath(source, "/dev") or is_beneath(source, layout.sys):
        return source
    raise InvalidArgumentError(f"mount source {source[:200]!r} is not one a container may have")


def _check_overlay(mount: Mount, layout: Layout) -> None:
    if mount.type != "overlay":
        return
    for option in mount.options:
        key, _, value = option.partition("=")
        if key in ("lowerdir", "upperdir", "workdir"):
            for directory in value.split(":"):
                path_beneath(directory, layout.shared_run, f"overlay {key}")


def _linux(linux: Linux, container_id: str, around: Surroundings) -> Json:
    if linux.uid_mappings or linux.gid_mappings:
        raise UnimplementedError(f"container {container_id}: user namespaces are not supported in the guest")
    if linux.rootfs_propagation not in _PROPAGATIONS:
        raise InvalidArgumentError(f"rootfsPropagation {linux.rootfs_propagation[:40]!r} is unknown")
    result: Json = {
        "cgroupsPath": cgroups_path(container_id),
        "namespaces": _namespaces(around),
        "resources": resources_json(linux.resources, around.online_cpus),
        "devices": [_device(device) for device in linux.devices],
        "sysctl": {key: value for key, value in linux.sysctl.items() if not _is_network(key)},
        "maskedPaths": [absolute_path(path, "masked path") for path in linux.masked_paths],
        "readonlyPaths": [absolute_path(path, "read-only path") for path in linux.readonly_paths],
    }
    if linux.rootfs_propagation:
        result["rootfsPropagation"] = linux.rootfs_propagation
    if linux.seccomp is not None and linux.seccomp.default_action:
        result["seccomp"] = seccomp_json(linux.seccomp)
    return result


def _namespaces(around: Surroundings) -> list[Json]:
    return [
        {"type": "mount"},
        {"type": "cgroup"},
        {"type": "ipc", "path": around.ipc},
        {"type": "uts", "path": around.uts},
        {"type": "pid", "path": around.pid} if around.pid else {"type": "pid"},
    ]


def _device(device: LinuxDevice) -> Json:
    if device.type not in _DEVICE_TYPES:
        raise InvalidArgumentError(f"device {device.path[:200]!r} has unknown type {device.type[:20]!r}")
    result: Json = {
        "path": absolute_path(device.path, "device path"),
        "type": device.type,
        "major": device.major,
        "minor": device.minor,
        "uid": device.uid,
        "gid": device.gid,
    }
    if device.file_mode:
        result["fileMode"] = device.file_mode & 0o7777
    return result


def _hooks(hooks: Hooks) -> Json:
    return {
        "createContainer": [_hook(hook) for hook in hooks.create_container],
        "startContainer": [_hook(hook) for hook in hooks.start_container],
    }


def _hook(hook: Hook) -> Json:
    result: Json = {"path": absolute_path(hook.path, "hook path"), "args": list(hook.args), "env": list(hook.env)}
    if hook.timeout > 0:
        result["timeout"] = hook.timeout
    return result
