"""What a pod of the Sandbox API is, in the words of OCI: the spec that its own container would have, if it had one.

containerd gives such a pod no container of its own (no pause), so nobody has written a spec for it: what CRI's plugin
would have put into one is made here of the request, and everything that plans a pod works as ever. What the pod's own
container would have brought about in the guest (the pod's sysctls) comes with its containers instead.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from msgspec.structs import replace

from sandbox.annotations import ContainerKind
from sandbox.errors import AlreadyExistsError, InvalidArgumentError
from sandbox.interface import PodSettings, SandboxRequest
from sandbox.oci import Linux, Namespace, Root, Spec, SpecMount
from sandbox.volumes import is_bind

_CRI = "io.kubernetes.cri."
_NS_GET_NSTYPE = 0xB703
_CLONE_NEWNET = 0x40000000

#: Files of the pod that containerd's podsandbox controller makes on the host, and nobody makes for the Sandbox API.
_FILES = _RESOLV_CONF, _HOSTNAME, _HOSTS = "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"
_FILE_LIMIT = 64 * 1024


def check_network_namespace(path: str) -> None:
    """Raise `InvalidArgumentError` unless `path` is a network namespace, by what the kernel says of it."""
    if not path.startswith("/"):
        raise InvalidArgumentError(f"network namespace {path[:200]!r} is not an absolute path")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"network namespace {path[:200]}: {error}") from error
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as error:
        raise InvalidArgumentError(f"{path[:200]} is not a namespace: {error.strerror}") from error
    finally:
        os.close(fd)
    if kind != _CLONE_NEWNET:
        raise InvalidArgumentError(f"{path[:200]} is a namespace, but not one of a network")


def pod_spec(request: SandboxRequest, namespace: str, files: Path) -> Spec:
    """The spec of the pod's own container; `files` is the directory in which `write_files` leaves the pod's."""
    settings = request.settings
    network = [Namespace("network", request.netns_path)] if request.netns_path else []
    return Spec(
        root=Root("rootfs", readonly=True),
        hostname=settings.hostname,
        mounts=[_file_mount(_RESOLV_CONF, files)],
        annotations=_annotations(request),
        linux=Linux(
            namespaces=[*network, Namespace("ipc"), Namespace("uts")],
            cgroups_path=_cgroups_path(settings.cgroup_parent, namespace, request.sandbox_id),
            sysctl=dict(settings.sysctls),
        ),
    )


def write_files(settings: PodSettings, files: Path) -> None:
    """Leave the pod's own files in the directory `files`, as containerd's podsandbox controller makes them.

    A pod without settings for its resolver has the host's. Raises `OSError`.
    """
    files.mkdir(mode=0o755, exist_ok=True)
    contents = {
        _RESOLV_CONF: "".join(f"{line}\n" for line in settings.dns) or _text_of(_RESOLV_CONF),
        _HOSTNAME: f"{settings.hostname or os.uname().nodename}\n",
        _HOSTS: _text_of(_HOSTS) or "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    }
    for name, text in contents.items():
        (files / Path(name).name).write_text(text)


def _text_of(path: str) -> str:
    """A file of the host, as far as a small one goes; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_FILE_LIMIT)
    except FileNotFoundError:
        return ""


def check_member(sandbox_id: str, container_id: str, kind: ContainerKind) -> None:
    """Raise `AlreadyExistsError` for a container that would be the pod's own.

    One that says nothing of a pod is welcome: containerd sends it here because it was asked to (`ctr run --sandbox`).
    """
    if kind is ContainerKind.SANDBOX or container_id == sandbox_id:
        raise AlreadyExistsError(f"sandbox {sandbox_id} has no container of its own: the Sandbox API made it")


def member_spec(pod: Spec, spec: Spec, files: Path) -> Spec:
    """The spec of a container of the pod: with the pod's sysctls, its /dev/shm, and its files where it has none.

    CRI's plugin knows only the files that its podsandbox controller has made, and leaves out, or names in vain, those
    of any other pod; without them it gives each container a /dev/shm of its own.
    """
    mounts = [_with_pods(item, files) for item in spec.mounts]
    named = {item.destination for item in spec.mounts}
    mounts += [_file_mount(name, files) for name in _FILES if name not in named]
    sysctls = {**pod.linux.sysctl, **spec.linux.sysctl}
    return replace(spec, mounts=mounts, linux=replace(spec.linux, sysctl=sysctls))


def _file_mount(name: str, files: Path) -> SpecMount:
    return SpecMount(name, "bind", str(files / Path(name).name), ["rbind", "rprivate", "rw"])


def _with_pods(item: SpecMount, files: Path) -> SpecMount:
    if item.destination == "/dev/shm" and item.type == "tmpfs":
        return SpecMount(item.destination, "bind", item.destination, ["rbind"])
    if item.destination not in _FILES or not is_bind(item) or os.path.isfile(item.source):
        return item
    return _file_mount(item.destination, files)


def _annotations(request: SandboxRequest) -> dict[str, str]:
    """The pod's annotations with those that CRI's plugin adds; kubelet's limits are told by the pod's settings."""
    settings = request.settings
    limits = {
        "sandbox-cpu-period": settings.cpu_period,
        "sandbox-cpu-quota": settings.cpu_quota,
        "sandbox-cpu-shares": settings.cpu_shares,
        "sandbox-memory": settings.memory_limit,
    }
    own = {_CRI + "container-type": "sandbox", _CRI + "sandbox-id": request.sandbox_id}
    sizes = {_CRI + name: str(value) for name, value in limits.items() if value}
    return {**settings.annotations, **request.annotations, **sizes, **own}


def _cgroups_path(parent: str, namespace: str, sandbox_id: str) -> str:
    """As CRI's plugin names it: systemd's notation for a slice, else a path; without a parent containerd's default."""
    if not parent:
        return f"/{namespace}/{sandbox_id}"
    name = parent.rstrip("/").rpartition("/")[2]
    return f"{name}:cri-containerd:{sandbox_id}" if name.endswith(".slice") else f"{parent.rstrip('/')}/{sandbox_id}"
