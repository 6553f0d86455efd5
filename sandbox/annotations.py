"""What the annotations of an OCI spec say about a container's place in a pod, and the pod's size.

Containerd's CRI plugin, CRI-O and dockershim each use keys of their own; Kata reads all of them, so we do. This module
is on the path of `start`: standard library only, and not `enum`, which takes two milliseconds to import.
"""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar

_CRI = "io.kubernetes.cri."
_CRIO = "io.kubernetes.cri-o."
_DOCKER = "io.kubernetes.docker."

_TYPE_KEYS = (_CRI + "container-type", _CRIO + "ContainerType", _DOCKER + "type")
_SANDBOX_ID_KEYS = (
    _CRI + "sandbox-id",
    _CRIO + "SandboxID",
    "io.kubernetes.sandbox.id",
)
#: Longest name of a Kubernetes object.
_LONGEST_NAME = 253
_SANDBOX_VALUES = frozenset({"sandbox", "podsandbox"})


class ContainerKind(str):
    """Whether a container is a pod's own (`sandbox`), one of a pod's (`container`) or stands alone (`single`).

    There are these three, to be compared by `is`.
    """

    __slots__ = ()

    SANDBOX: ClassVar[ContainerKind]
    CONTAINER: ClassVar[ContainerKind]
    SINGLE: ClassVar[ContainerKind]


ContainerKind.SANDBOX = ContainerKind("sandbox")
ContainerKind.CONTAINER = ContainerKind("container")
ContainerKind.SINGLE = ContainerKind("single")


class AnnotationError(ValueError):
    """An annotation has a value that makes no sense; the message names the key."""


def container_kind(annotations: Mapping[str, str]) -> tuple[ContainerKind, str | None]:
    """The container's kind, and the id of its pod where the annotations tell it.

    Raises `AnnotationError` for a container type nobody defines, and for a pod container without its pod's id.
    """
    key, value = _first(annotations, _TYPE_KEYS)
    _, sandbox_id = _first(annotations, _SANDBOX_ID_KEYS)
    if value is None:
        return ContainerKind.SINGLE, None
    if value in _SANDBOX_VALUES:
        return ContainerKind.SANDBOX, sandbox_id
    if value != "container":
        raise AnnotationError(f"annotation {key}: unknown container type {value!r} (sandbox or container)")
    if not sandbox_id:
        raise AnnotationError(f"annotation {key} says container, but no annotation names its sandbox")
    return ContainerKind.CONTAINER, sandbox_id


def pod_names(annotations: Mapping[str, str]) -> dict[str, str]:
    """What Kubernetes calls the pod (`name`, `namespace`, `uid`), as far as it is told; each one bounded line."""
    told = {name: annotations.get(f"{_CRI}sandbox-{name}", "") for name in ("name", "namespace", "uid")}
    return {name: _line(value) for name, value in told.items() if value}


def _line(value: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in value[:_LONGEST_NAME])


def _first(annotations: Mapping[str, str], keys: tuple[str, ...]) -> tuple[str, str | None]:
    for key in keys:
        if annotations.get(key):
            return key, annotations[key]
    return keys[0], None


def sandbox_cpus(annotations: Mapping[str, str]) -> float:
    """CPUs that the pod's containers may use together, by CRI's sizing annotations; 0 when they set no limit.

    Kata's rule: quota / period; without a quota, shares / 1024 rounded up, where shares of 2 are the kernel's minimum.
    """
    quota = _number(annotations, _CRI + "sandbox-cpu-quota")
    period = _number(annotations, _CRI + "sandbox-cpu-period")
    if quota > 0 and period > 0:
        return quota / period
    shares = _number(annotations, _CRI + "sandbox-cpu-shares")
    return math.ceil(shares / 1024) if quota < 0 and shares > 2 else 0


def sandbox_memory_bytes(annotations: Mapping[str, str]) -> int:
    """Memory in bytes that the pod's containers may use together; 0 when there is no limit."""
    return max(0, _number(annotations, _CRI + "sandbox-memory"))


def _number(annotations: Mapping[str, str], key: str) -> int:
    text = annotations.get(key, "0")
    try:
        number = int(text)
    except ValueError as error:
        raise AnnotationError(f"annotation {key}: {text[:_LONGEST_NAME]!r} is not a whole number") from error
    if not -(1 << 63) <= number < 1 << 63:
        raise AnnotationError(f"annotation {key}: {text[:_LONGEST_NAME]!r} is not a number of 64 bits")
    return number
