"""What the guest is told once, before its first container: the arguments of the agent's CreateSandbox. Pure but for
reading the pod's resolv.conf and the size of its /dev/shm.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from protos.gen import grpc as agent_pb
from sandbox import guest_paths
from sandbox.annotations import ContainerKind
from sandbox.oci import Spec, SpecMount
from sandbox.volumes import is_bind

#: Linux' limit for a host name (HOST_NAME_MAX).
_HOSTNAME_LIMIT = 64
#: A resolv.conf is a few lines; more is not one.
_RESOLV_LIMIT = 64 * 1024
#: CRI's default for the pod's /dev/shm, in bytes.
_SHM_DEFAULT = 64 << 20


def create_sandbox_arguments(
    spec: Spec,
    kind: ContainerKind,
    sandbox_id: str,
    kernel_modules: Sequence[str],
    shared: Sequence[agent_pb.Storage],
    guest_hooks: str = "",
) -> dict[str, Any]:
    """Keyword arguments for `AgentClient.create_sandbox`; `shared` is the mount of the shared file system, if any,
    and `guest_hooks` the directory in the guest with hooks for every container, or empty.

    A pod's /dev/shm is one tmpfs for all its containers; a single container has its own in its spec, unless that binds
    one. Kata's agent writes the resolver's lines beside it, into a directory that is only there with it.
    """
    dns = _dns(spec.mounts)
    storages = [*shared]
    if kind is ContainerKind.SANDBOX or dns or _bind_source(spec.mounts, "/dev/shm") is not None:
        storages.append(shm_storage(_shm_size(spec.mounts)))
    return {
        "hostname": spec.hostname[:_HOSTNAME_LIMIT],
        "dns": dns,
        "storages": storages,
        "sandbox_pidns": False,
        "sandbox_id": sandbox_id,
        "guest_hook_path": guest_hooks,
        "kernel_modules": [kernel_module(text) for text in kernel_modules],
    }


def shm_storage(size: int) -> agent_pb.Storage:
    """The pod's /dev/shm, of `size` bytes."""
    options = ["noexec", "nosuid", "nodev", "mode=1777", f"size={size}"]
    return agent_pb.Storage(
        driver="ephemeral", source="shm", fstype="tmpfs", options=options, mount_point=guest_paths.SANDBOX_SHM
    )


def kernel_module(text: str) -> agent_pb.KernelModule:
    """Kata's notation: the first word is the module, the others are its parameters."""
    name, *parameters = text.split()
    return agent_pb.KernelModule(name=name, parameters=parameters)


def _bind_source(mounts: Sequence[SpecMount], destination: str) -> str | None:
    return next((item.source for item in mounts if item.destination == destination and is_bind(item)), None)


def _dns(mounts: Sequence[SpecMount]) -> list[str]:
    source = _bind_source(mounts, "/etc/resolv.conf")
    if source is None:
        return []
    try:
        # Whatever is there must not hold up the daemon, as a FIFO would.
        fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            text = (file.read(_RESOLV_LIMIT) or b"").decode(errors="replace")
    except (OSError, ValueError):
        return []
    return [line for line in text.splitlines() if line.strip()]


def _shm_size(mounts: Sequence[SpecMount]) -> int:
    """The size of the tmpfs that containerd made for the pod on the host."""
    source = _bind_source(mounts, "/dev/shm")
    if source is None or source == "/dev/shm":
        return _SHM_DEFAULT
    try:
        stat = os.statvfs(source)
    except (OSError, ValueError):
        return _SHM_DEFAULT
    return stat.f_blocks * stat.f_frsize or _SHM_DEFAULT
