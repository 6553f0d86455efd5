"""CRI's settings of a pod as plain values: what is kept, and what is no pod's."""

from __future__ import annotations

import pytest

from protos import anys
from protos.gen.containerd.runtime.sandbox.v1 import CreateSandboxRequest
from protos.gen.runtime.v1 import (
    DnsConfig,
    LinuxContainerResources,
    LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext,
    NamespaceMode,
    NamespaceOption,
    PodSandboxConfig,
)
from protos.gen.runtimeoptions.v1 import Options
from protos.gen.wellknown import Any as AnyMessage
from sandbox.errors import InvalidArgumentError
from sandbox.interface import PodSettings, SandboxRequest
from shim import pod_config


def _request(options: AnyMessage | None) -> SandboxRequest:
    return pod_config.sandbox_request(CreateSandboxRequest(sandbox_id="s1", bundle_path="/b", options=options))


def _settings(**fields: object) -> PodSettings:
    return _request(anys.pack(PodSandboxConfig(**fields))).settings  # type: ignore[arg-type]


def test_limits_are_those_of_all_containers_together() -> None:
    limits = LinuxContainerResources(cpu_period=100000, cpu_quota=150000, cpu_shares=512, memory_limit_in_bytes=1 << 28)
    settings = _settings(linux=LinuxPodSandboxConfig(resources=limits))

    assert (settings.cpu_period, settings.cpu_quota, settings.cpu_shares) == (100000, 150000, 512)
    assert settings.memory_limit == 1 << 28


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (NamespaceOption(pid=NamespaceMode.NODE), ("pid",)),
        (NamespaceOption(network=NamespaceMode.NODE, ipc=NamespaceMode.NODE), ("ipc",)),
        (NamespaceOption(pid=NamespaceMode.CONTAINER, ipc=NamespaceMode.POD), ()),
        (None, ()),
    ],
)
def test_namespaces_of_the_host_are_named(options: NamespaceOption | None, named: tuple[str, ...]) -> None:
    context = LinuxSandboxSecurityContext(namespace_options=options)

    assert _settings(linux=LinuxPodSandboxConfig(security_context=context)).host_namespaces == named


@pytest.mark.parametrize("options", [None, AnyMessage(type_url="containerd.runc.v1.Options", value=b"\xff\xff")])
def test_options_of_nobody_or_another_runtime_say_nothing(options: AnyMessage | None) -> None:
    assert _request(options).settings == PodSettings()


def test_the_runtimes_own_options_name_the_configuration() -> None:
    assert str(_request(anys.pack(Options(config_path="/etc/k.toml"))).config_path) == "/etc/k.toml"


def test_an_empty_resolver_is_the_hosts() -> None:
    assert _settings(dns_config=DnsConfig()).dns == ()


@pytest.mark.parametrize("hostname", ["x" * 65, "two words", "a\nb", "a/b"])
def test_what_is_no_host_name_is_refused(hostname: str) -> None:
    with pytest.raises(InvalidArgumentError, match="not a host name"):
        _settings(hostname=hostname)


@pytest.mark.parametrize(
    "dns",
    [
        DnsConfig(servers=["9.9.9.9\nnameserver 6.6.6.6"]),
        DnsConfig(searches=["x" * 9000]),
        DnsConfig(servers=["9.9.9.9"] * 65),
    ],
    ids=["a line in a line", "a long line", "many lines"],
)
def test_what_is_no_resolv_conf_is_refused(dns: DnsConfig) -> None:
    with pytest.raises(InvalidArgumentError, match=r"resolv\.conf"):
        _settings(dns_config=dns)


def test_settings_that_cannot_be_decoded_are_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match="PodSandboxConfig"):
        _request(AnyMessage(type_url="runtime.v1.PodSandboxConfig", value=b"\x0a\x7f"))
