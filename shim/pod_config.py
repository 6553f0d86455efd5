"""`CreateSandbox` as the pod's plain values: containerd's request, and CRI's `PodSandboxConfig` inside it.

The messages are imported when a request brings one: a pod that containers make never pays.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from protos.codec import DecodeError
from protos.gen.containerd.runtime.sandbox import v1
from sandbox.errors import InvalidArgumentError
from sandbox.interface import PodSettings, SandboxRequest
from shim.translate import runtime_options

if TYPE_CHECKING:
    from shim.pod_messages import DnsConfig, LinuxPod, PodConfig

CONFIG_TYPE = "runtime.v1.PodSandboxConfig"
#: Linux' limit for a host name (HOST_NAME_MAX).
_HOSTNAME_LIMIT = 64
#: Most lines of a resolv.conf, and most characters of each; a resolver reads three servers and some domains.
_DNS_LINES, _DNS_LENGTH = 64, 8192
#: CRI's `NamespaceMode.NODE`: the host's.
_NODE = 2


def sandbox_request(message: v1.CreateSandboxRequest) -> SandboxRequest:
    """The request; raises `InvalidArgumentError`. Options of other types than the two known are another runtime's."""
    options = message.options
    url, value = (options.type_url, bytes(options.value)) if options is not None else ("", b"")
    path, body = runtime_options(options)
    return SandboxRequest(
        sandbox_id=message.sandbox_id,
        bundle=Path(message.bundle_path),
        netns_path=message.netns_path,
        annotations=dict(message.annotations),
        settings=_decoded(value) if url.rpartition("/")[2] == CONFIG_TYPE else PodSettings(),
        config_path=path,
        config_body=body,
    )


def _decoded(value: bytes) -> PodSettings:
    from protos.codec import decode
    from shim.pod_messages import PodConfig

    try:
        return pod_settings(decode(PodConfig, value))
    except DecodeError as error:
        raise InvalidArgumentError(f"sandbox options {CONFIG_TYPE}: {error}") from error


def pod_settings(config: PodConfig) -> PodSettings:
    """What the pod's settings say of a VM; raises `InvalidArgumentError` for what can't be a pod's."""
    linux = config.linux
    limits = linux.resources if linux is not None else None
    return PodSettings(
        hostname=_hostname(config),
        dns=_dns(config.dns_config),
        annotations=dict(config.annotations),
        cgroup_parent=linux.cgroup_parent if linux is not None else "",
        sysctls=dict(linux.sysctls) if linux is not None else {},
        cpu_period=_limit(limits, "cpu_period"),
        cpu_quota=_limit(limits, "cpu_quota"),
        cpu_shares=_limit(limits, "cpu_shares"),
        memory_limit=_limit(limits, "memory_limit_in_bytes"),
        host_namespaces=_host_namespaces(linux),
    )


def _host_namespaces(linux: LinuxPod | None) -> tuple[str, ...]:
    context = linux.security_context if linux is not None else None
    options = context.namespace_options if context is not None else None
    modes = {"pid": options.pid, "ipc": options.ipc} if options is not None else {}
    return tuple(name for name, mode in modes.items() if mode == _NODE)


def _limit(limits: Any, name: str) -> int:
    return int(getattr(limits, name)) if limits is not None else 0


def _hostname(config: PodConfig) -> str:
    name = config.hostname
    if len(name) > _HOSTNAME_LIMIT or not name.isprintable() or " " in name or "/" in name:
        raise InvalidArgumentError(f"sandbox options: {name[:80]!r} is not a host name")
    return name


def _dns(dns: DnsConfig | None) -> tuple[str, ...]:
    """Lines of resolv.conf, as CRI's plugin writes it."""
    if dns is None:
        return ()
    lines = [f"search {' '.join(dns.searches)}"] if dns.searches else []
    lines += [f"nameserver {server}" for server in dns.servers]
    lines += [f"options {' '.join(dns.options)}"] if dns.options else []
    for line in lines:
        if not line.isprintable() or len(line) > _DNS_LENGTH:
            raise InvalidArgumentError(f"sandbox options: {line[:80]!r} is not a line of a resolv.conf")
    if len(lines) > _DNS_LINES:
        raise InvalidArgumentError(f"sandbox options: a resolv.conf of {len(lines)} lines (at most {_DNS_LINES})")
    return tuple(lines)
