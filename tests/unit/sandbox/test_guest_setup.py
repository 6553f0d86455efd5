"""Contract: what a pod's files say of its resolver reaches the guest, and what is no such file holds up nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.annotations import ContainerKind
from sandbox.guest_setup import create_sandbox_arguments
from sandbox.oci import Root, Spec, SpecMount


def dns(source: str) -> list[str]:
    spec = Spec(Root("rootfs"), mounts=[SpecMount("/etc/resolv.conf", "bind", source)])
    return create_sandbox_arguments(spec, ContainerKind.SINGLE, "c1", (), ())["dns"]


def test_the_lines_of_the_resolver_are_told(tmp_path: Path):
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.1\n\nsearch a b\n")

    assert dns(str(tmp_path / "resolv.conf")) == ["nameserver 10.0.0.1", "search a b"]


@pytest.mark.parametrize("name", ["fifo", "missing", "a\0b", ""])
def test_what_can_not_be_read_says_nothing_and_is_not_waited_for(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / "fifo")

    assert dns(f"{tmp_path}/{name}") == []


@pytest.mark.parametrize(
    ("mounts", "has_shm"),
    [
        ([SpecMount("/dev/shm", "tmpfs", "shm")], False),
        ([SpecMount("/dev/shm", "bind", "/host/shm")], True),
        ([SpecMount("/etc/resolv.conf", "bind", "{tmp}/resolv.conf")], True),
    ],
)
def test_a_single_container_has_the_pods_shm_if_it_binds_it_or_the_agent_writes_beside_it(
    tmp_path: Path, mounts: list[SpecMount], has_shm: bool
):
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.1\n")
    told = [SpecMount(item.destination, item.type, item.source.format(tmp=tmp_path)) for item in mounts]

    storages = create_sandbox_arguments(Spec(Root("rootfs"), mounts=told), ContainerKind.SINGLE, "c1", (), ())[
        "storages"
    ]

    assert [storage.mount_point for storage in storages] == ["/run/kata-containers/sandbox/shm"] * has_shm
