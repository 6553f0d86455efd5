"""Where things are inside the guest: the paths that Kata's shim and agent agree on."""

from __future__ import annotations

#: Mount point of the shared file system.
SHARED = "/run/kata-containers/shared/containers"
#: Kata's tag of the shared file system.
SHARED_TAG = "kataShared"
#: Kata's directory, in the shared one, of what every sandbox has (`sandbox_bind_mounts`).
SANDBOX_MOUNTS = "sandbox-mounts"
#: The pod's own /dev/shm.
SANDBOX_SHM = "/run/kata-containers/sandbox/shm"


def container(container_id: str) -> str:
    """What is a container's alone in the shared directory."""
    return f"{SHARED}/{container_id}"


def rootfs(container_id: str) -> str:
    """Root file system of a container."""
    return f"{container(container_id)}/rootfs"


def shared(name: str) -> str:
    """An entry of the shared directory."""
    return f"{SHARED}/{name}"


def disk_rootfs(container_id: str) -> str:
    """Root file system of a container that lies on disks of the guest: not in the share, which is the host's."""
    return f"/run/kata-containers/sandbox/rootfs/{container_id}"


def storage(name: str) -> str:
    """Where the guest mounts a disk that is a volume, as Kata names it."""
    return f"/run/kata-containers/sandbox/storage/{name}"


def ephemeral(name: str) -> str:
    """A volume in the guest's memory, as Kata names it."""
    return f"/run/kata-containers/sandbox/ephemeral/{name}"
