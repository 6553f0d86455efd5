"""The network namespace of a pod: what its spec says, and the namespace itself, held open.

OCI runtime-spec `config-linux.md`: an entry with a path is joined, one without is new and empty, none at all means the
host's own. The last is refused: a VM can't be in the host's network, and half of it would be worse than none.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass

from sandbox.errors import FailedPreconditionError, UnimplementedError
from sandbox.oci import Spec

_NS_GET_NSTYPE = 0xB703
_CLONE_NEWNET = 0x40000000
#: nerdctl names the namespace that its OCI hooks have made here; the spec's own entry has no path then.
_NERDCTL = "nerdctl/network-namespace"
_OWN = "/proc/self/ns/net"
_HOST_NETWORK = (
    "host network (hostNetwork, --net-host) is not possible: the pod runs in a VM, which can't be in the host's "
    "network; give it a network of its own, or another runtime"
)


def namespace_of(spec: Spec) -> str | None:
    """Path of the namespace to carry, None if the pod has an empty one of its own.

    Raises `UnimplementedError` for a spec that asks for the host's.
    """
    entries = [item for item in spec.linux.namespaces if item.type == "network"]
    if not entries:
        raise UnimplementedError(_HOST_NETWORK)
    return entries[0].path or spec.annotations.get(_NERDCTL) or None


@dataclass(frozen=True)
class Namespace:
    """An open namespace, which lives on when its name goes; `device` and `inode` tell it from others."""

    path: str
    fd: int
    device: int
    inode: int

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


def open_namespace(path: str) -> Namespace:
    """Open the pod's network namespace.

    Raises `FailedPreconditionError` if there is none at `path`, `UnimplementedError` if it is the host's.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FailedPreconditionError(f"network namespace {path}: {reason}") from error
    try:
        _check_kind(path, fd)
        about = os.fstat(fd)
        if is_own(about):
            raise UnimplementedError(_HOST_NETWORK)
    except BaseException:
        os.close(fd)
        raise
    return Namespace(path, fd, about.st_dev, about.st_ino)


def _check_kind(path: str, fd: int) -> None:
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        raise FailedPreconditionError(f"{path} is not a network namespace")


def is_own(about: os.stat_result) -> bool:
    """Whether it is the namespace that this process, as containerd, is in: the host's."""
    own = os.stat(_OWN)
    return (own.st_dev, own.st_ino) == (about.st_dev, about.st_ino)
