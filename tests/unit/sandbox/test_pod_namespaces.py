"""Which process and IPC namespaces a pod may ask for."""

from __future__ import annotations

import pytest

from sandbox import oci, pod_namespaces
from sandbox.annotations import ContainerKind
from sandbox.errors import UnimplementedError


def spec(**paths):
    namespaces = [oci.Namespace(kind, path) for kind, path in paths.items()]
    return oci.Spec(oci.Root("r"), linux=oci.Linux(namespaces=namespaces))


OWN = spec(pid="")
JOINS = spec(pid="/proc/7/ns/pid")


@pytest.mark.parametrize("kind", [ContainerKind.SANDBOX, ContainerKind.SINGLE])
@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (spec(ipc=""), "hostPID"),
        (spec(pid=""), "hostIPC"),
        (spec(pid="/proc/1/ns/pid", ipc=""), "/proc/1/ns/pid"),
        (spec(pid="", ipc="/proc/1/ns/ipc"), "/proc/1/ns/ipc"),
    ],
)
def test_a_namespace_of_the_host_is_refused_by_name(kind, asked, word):
    with pytest.raises(UnimplementedError, match=word):
        pod_namespaces.check_pod(asked, kind)


@pytest.mark.parametrize("kind", [ContainerKind.SANDBOX, ContainerKind.SINGLE])
def test_namespaces_of_its_own_are_what_a_pod_may_have(kind):
    pod_namespaces.check_pod(spec(pid="", ipc=""), kind)


def test_a_pod_s_containers_join_it_by_paths():
    pod_namespaces.check_pod(spec(pid="/proc/7/ns/pid", ipc="/proc/7/ns/ipc"), ContainerKind.CONTAINER)


@pytest.mark.parametrize(
    ("asked", "kind", "others", "shares"),
    [
        (OWN, ContainerKind.SANDBOX, [], True),
        (OWN, ContainerKind.SINGLE, [], False),
        (OWN, ContainerKind.CONTAINER, [OWN], False),
        (JOINS, ContainerKind.CONTAINER, [], True),
        (JOINS, ContainerKind.CONTAINER, [JOINS, JOINS], True),
    ],
)
def test_who_shares_processes(asked, kind, others, shares):
    assert pod_namespaces.shares_processes(asked, kind, others) is shares


def test_another_container_s_namespace_alone_is_refused():
    with pytest.raises(UnimplementedError, match="--target"):
        pod_namespaces.shares_processes(JOINS, ContainerKind.CONTAINER, [JOINS, OWN])
