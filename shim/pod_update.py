"""`UpdateSandbox` as the pod's plain values, in the two ways in which containerd writes it.

Up to 2.3 it has a field of OCI resources, which containerd declares and never fills. Since 2.4 it has the sandbox as
containerd's store knows it, and what kubelet asks for a pod that runs (CRI's UpdatePodSandboxResources) is an extension
of that: JSON of a Go structure, whose limits are CRI's `LinuxContainerResources`.
"""

from __future__ import annotations

import msgspec

from protos.gen.containerd.runtime.sandbox import v1
from sandbox import oci
from sandbox.errors import InvalidArgumentError
from shim import translate

#: The extension's name and type.
EXTENSION, EXTENSION_TYPE = "updated-resources", "io.containerd.cri.v1/UpdatedResources"


class _Limits(oci.Struct, frozen=True, rename="lower"):
    """CPU times in microseconds, memory in bytes; 0 is for what nobody names."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit_in_bytes: int = 0


class _UpdatedResources(oci.Struct, frozen=True):
    """The extension. The pod's overhead, of which it tells too, is no business of the containers."""

    limits: _Limits | None = msgspec.field(default=None, name="Resources")


def resources(message: v1.UpdateSandboxRequest) -> bytes | None:
    """The limits of an update as OCI resources (JSON), None if it names none; raises `InvalidArgumentError`."""
    if message.resources is not None:
        return translate.oci_resources(message.resources)
    extension = message.sandbox.extensions.get(EXTENSION) if message.sandbox is not None else None
    if extension is None:
        return None
    if extension.type_url != EXTENSION_TYPE:
        raise InvalidArgumentError(f"{EXTENSION} of type {extension.type_url[:120]!r}: {EXTENSION_TYPE!r} expected")
    limits = _decoded(bytes(extension.value)).limits
    return _oci(limits) if limits is not None else None


def _decoded(value: bytes) -> _UpdatedResources:
    try:
        return msgspec.json.decode(value, type=_UpdatedResources)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{EXTENSION}: {error}") from error


def _oci(limits: _Limits) -> bytes:
    cpu = oci.Cpu(period=limits.cpu_period or None, quota=limits.cpu_quota or None, shares=limits.cpu_shares or None)
    return msgspec.json.encode(oci.Resources(cpu=cpu, memory=oci.Memory(limit=limits.memory_limit_in_bytes or None)))
