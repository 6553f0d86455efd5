"""Of CRI's `PodSandboxConfig` what a pod of ours reads, wire-compatible with `protos.gen.runtime.v1`.

The whole of CRI would cost each pod a megabyte and a half for five messages; field numbers are those of
`protos/src/runtime/v1/api.proto`, and what is not named here is skipped.
"""

# Fields are made by a call of betterproto2's, in this class body as in the generated ones.
# ruff: noqa: RUF009

from __future__ import annotations

from dataclasses import dataclass

import betterproto2

_TEXTS = betterproto2.map_meta(betterproto2.TYPE_STRING, betterproto2.TYPE_STRING)


@dataclass(eq=False, repr=False)
class DnsConfig(betterproto2.Message):
    """The content of resolv.conf."""

    servers: list[str] = betterproto2.field(1, betterproto2.TYPE_STRING, repeated=True)
    searches: list[str] = betterproto2.field(2, betterproto2.TYPE_STRING, repeated=True)
    options: list[str] = betterproto2.field(3, betterproto2.TYPE_STRING, repeated=True)


@dataclass(eq=False, repr=False)
class Resources(betterproto2.Message):
    """Limits (`LinuxContainerResources`); CPU times in microseconds, memory in bytes."""

    cpu_period: int = betterproto2.field(1, betterproto2.TYPE_INT64)
    cpu_quota: int = betterproto2.field(2, betterproto2.TYPE_INT64)
    cpu_shares: int = betterproto2.field(3, betterproto2.TYPE_INT64)
    memory_limit_in_bytes: int = betterproto2.field(4, betterproto2.TYPE_INT64)


@dataclass(eq=False, repr=False)
class Namespaces(betterproto2.Message):
    """Whose namespaces the pod has (`NamespaceOption`), as numbers of `NamespaceMode`."""

    pid: int = betterproto2.field(2, betterproto2.TYPE_INT32)
    ipc: int = betterproto2.field(3, betterproto2.TYPE_INT32)


@dataclass(eq=False, repr=False)
class SecurityContext(betterproto2.Message):
    """The pod's own part of what its containers may (`LinuxSandboxSecurityContext`)."""

    namespace_options: Namespaces | None = betterproto2.field(1, betterproto2.TYPE_MESSAGE, optional=True)


@dataclass(eq=False, repr=False)
class LinuxPod(betterproto2.Message):
    """What of a pod is specific to Linux (`LinuxPodSandboxConfig`)."""

    cgroup_parent: str = betterproto2.field(1, betterproto2.TYPE_STRING)
    security_context: SecurityContext | None = betterproto2.field(2, betterproto2.TYPE_MESSAGE, optional=True)
    sysctls: dict[str, str] = betterproto2.field(3, betterproto2.TYPE_MAP, map_meta=_TEXTS)
    resources: Resources | None = betterproto2.field(5, betterproto2.TYPE_MESSAGE, optional=True)


@dataclass(eq=False, repr=False)
class PodConfig(betterproto2.Message):
    """A pod's settings (`PodSandboxConfig`)."""

    hostname: str = betterproto2.field(2, betterproto2.TYPE_STRING)
    dns_config: DnsConfig | None = betterproto2.field(4, betterproto2.TYPE_MESSAGE, optional=True)
    annotations: dict[str, str] = betterproto2.field(7, betterproto2.TYPE_MAP, map_meta=_TEXTS)
    linux: LinuxPod | None = betterproto2.field(8, betterproto2.TYPE_MESSAGE, optional=True)
