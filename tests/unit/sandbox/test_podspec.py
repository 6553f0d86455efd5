"""The spec that a pod of the Sandbox API would have, if somebody had written one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.annotations import ContainerKind, container_kind, sandbox_cpus, sandbox_memory_bytes
from sandbox.errors import InvalidArgumentError
from sandbox.interface import PodSettings, SandboxRequest
from sandbox.oci import Root, Spec, SpecMount
from sandbox.podspec import check_network_namespace, member_spec, pod_spec, write_files

FILES = Path("/run/kata/x/pod")


def spec_of(netns: str = "", annotations: dict[str, str] | None = None, **settings: object) -> Spec:
    """The spec of a pod with these settings."""
    request = SandboxRequest("p1", Path("/b"), netns, annotations or {}, PodSettings(**settings))  # type: ignore[arg-type]
    return pod_spec(request, "k8s.io", FILES)


def test_limits_become_the_annotations_that_size_a_vm() -> None:
    spec = spec_of(cpu_period=100000, cpu_quota=250000, memory_limit=1 << 30)

    assert sandbox_cpus(spec.annotations) == 2.5
    assert sandbox_memory_bytes(spec.annotations) == 1 << 30


def test_a_pod_cannot_say_that_it_is_a_container_of_another() -> None:
    spec = spec_of(annotations={"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "p2"})

    assert container_kind(spec.annotations) == (ContainerKind.SANDBOX, "p1")


def test_the_network_is_the_namespace_that_was_given() -> None:
    assert [item.path for item in spec_of("/var/run/netns/n").linux.namespaces if item.type == "network"] == [
        "/var/run/netns/n"
    ]
    assert "network" not in [item.type for item in spec_of().linux.namespaces]


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("/kubepods/pod1", "/kubepods/pod1/p1"),
        ("/kubepods.slice/kubepods-pod1.slice", "kubepods-pod1.slice:cri-containerd:p1"),
        ("", "/k8s.io/p1"),
    ],
)
def test_the_cgroup_is_named_as_containerd_names_it(parent: str, path: str) -> None:
    assert spec_of(cgroup_parent=parent).linux.cgroups_path == path


def test_a_network_namespace_is_known_by_the_kernel() -> None:
    check_network_namespace("/proc/self/ns/net")
    with pytest.raises(InvalidArgumentError, match="not one of a network"):
        check_network_namespace("/proc/self/ns/mnt")


def test_files_that_a_container_brings_are_its_own(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("")
    spec = Spec(root=Root("rootfs"), mounts=[SpecMount("/etc/hosts", "bind", str(hosts), ["rbind"])])

    sources = {item.destination: item.source for item in member_spec(spec_of(), spec, FILES).mounts}

    assert sources == {
        "/etc/hosts": str(hosts),
        "/etc/resolv.conf": str(FILES / "resolv.conf"),
        "/etc/hostname": str(FILES / "hostname"),
    }


def test_a_directory_in_place_of_a_file_is_what_containerd_made_of_a_missing_one(tmp_path: Path) -> None:
    spec = Spec(root=Root("rootfs"), mounts=[SpecMount("/etc/resolv.conf", "bind", str(tmp_path), ["rbind"])])

    (mount,) = [item for item in member_spec(spec_of(), spec, FILES).mounts if item.destination == "/etc/resolv.conf"]

    assert mount.source == str(FILES / "resolv.conf")


def test_the_containers_share_the_pods_shared_memory() -> None:
    spec = Spec(root=Root("rootfs"), mounts=[SpecMount("/dev/shm", "tmpfs", "shm", ["size=65536k"])])

    assert member_spec(spec_of(), spec, FILES).mounts[0] == SpecMount("/dev/shm", "bind", "/dev/shm", ["rbind"])


def test_a_pod_without_a_resolver_has_the_hosts(tmp_path: Path) -> None:
    write_files(PodSettings(hostname="web"), tmp_path / "pod")

    assert (tmp_path / "pod" / "hostname").read_text() == "web\n"
    host = Path("/etc/resolv.conf")
    assert (tmp_path / "pod" / "resolv.conf").read_text() == (host.read_text() if host.exists() else "")
    assert "localhost" in (tmp_path / "pod" / "hosts").read_text()
