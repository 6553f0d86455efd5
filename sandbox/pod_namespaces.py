"""Process and IPC namespaces: which ones the guest makes for a container, and which wish only a host could grant.

OCI runtime-spec `config-linux.md`: an entry without a path is a new namespace, one with a path is joined, none at all
means the host's. A pod's own container says which the pod has (CRI leaves an entry out for hostPID and hostIPC); its
other containers join by paths of host processes, which tell no more than that something is shared.
"""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.annotations import ContainerKind
from sandbox.errors import UnimplementedError
from sandbox.oci import Spec

_WISHES = {"pid": "process namespace (hostPID)", "ipc": "IPC namespace (hostIPC)"}


def check_pod(spec: Spec, kind: ContainerKind) -> None:
    """Raise `UnimplementedError` if the first container of a pod asks for a namespace that a VM is not in.

    Serving such a pod with the guest's own would look like what it asked for, and not be it.
    """
    if kind is ContainerKind.CONTAINER:
        return
    for name, wish in _WISHES.items():
        entries = [item for item in spec.linux.namespaces if item.type == name]
        if not entries:
            raise _not_possible(wish)
        if any(item.path for item in entries):
            raise UnimplementedError(
                f"{name} namespace {entries[-1].path} is the host's, and can't be joined: the pod runs in a VM"
            )


def check_settings(host_namespaces: Iterable[str]) -> None:
    """Raise `UnimplementedError` if a pod of the Sandbox API, whose spec nobody wrote, is to have such a namespace."""
    for name in host_namespaces:
        raise _not_possible(_WISHES[name])


def _not_possible(wish: str) -> UnimplementedError:
    return UnimplementedError(f"the host's {wish} is not possible: the pod runs in a VM, with its own kernel")


def shares_processes(spec: Spec, kind: ContainerKind, others: Iterable[Spec]) -> bool:
    """Whether a container is in the process namespace that the pod's own container begins (shareProcessNamespace).

    `others` are the containers that the pod has besides its own. Where one of them is alone, the pod does not share,
    and who joins wants to see one of them (`kubectl debug --target`): which one can't be told, since all are the same
    process of the host. Raises `UnimplementedError` for that.
    """
    if kind is ContainerKind.SANDBOX:
        return True
    if not _joins(spec):
        return False
    if any(not _joins(other) for other in others):
        raise UnimplementedError(
            "the process namespace of another container (kubectl debug --target) can't be joined: the containers of a "
            "pod in a VM are one process of the host; set shareProcessNamespace for the pod, or leave out the target"
        )
    return True


def _joins(spec: Spec) -> bool:
    return any(item.type == "pid" and item.path for item in spec.linux.namespaces)
