"""Contract: the annotations of CRI, CRI-O and docker tell a container's place in its pod, and the pod's size."""

from __future__ import annotations

import pytest

from sandbox.annotations import (
    AnnotationError,
    ContainerKind,
    container_kind,
    pod_names,
    sandbox_cpus,
    sandbox_memory_bytes,
)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, (ContainerKind.SINGLE, None)),
        ({"unrelated": "x"}, (ContainerKind.SINGLE, None)),
        (
            {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "s1"},
            (ContainerKind.SANDBOX, "s1"),
        ),
        (
            {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "s1"},
            (ContainerKind.CONTAINER, "s1"),
        ),
        (
            {"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "s2"},
            (ContainerKind.CONTAINER, "s2"),
        ),
        ({"io.kubernetes.docker.type": "podsandbox"}, (ContainerKind.SANDBOX, None)),
        (
            {"io.kubernetes.docker.type": "container", "io.kubernetes.sandbox.id": "s3"},
            (ContainerKind.CONTAINER, "s3"),
        ),
    ],
)
def test_kind_and_sandbox_id(annotations, expected):
    assert container_kind(annotations) == expected


def test_an_unknown_container_type_is_refused_with_its_key():
    with pytest.raises(AnnotationError, match=r"io\.kubernetes\.cri\.container-type.*'vm'"):
        container_kind({"io.kubernetes.cri.container-type": "vm"})


def test_a_pod_container_without_its_pod_is_refused():
    with pytest.raises(AnnotationError, match="no annotation names its sandbox"):
        container_kind({"io.kubernetes.cri.container-type": "container"})


@pytest.mark.parametrize(
    ("quota", "period", "shares", "cpus"),
    [
        ("150000", "100000", "1024", 1.5),
        ("-1", "100000", "2048", 2),
        ("-1", "100000", "2", 0),
        ("0", "100000", "1024", 0),
        ("100000", "0", "1024", 0),
    ],
)
def test_cpus_follow_quota_then_shares(quota, period, shares, cpus):
    prefix = "io.kubernetes.cri.sandbox-cpu-"
    assert sandbox_cpus({prefix + "quota": quota, prefix + "period": period, prefix + "shares": shares}) == cpus


def test_memory_is_bytes_and_never_negative():
    assert sandbox_memory_bytes({"io.kubernetes.cri.sandbox-memory": "1048576"}) == 1 << 20
    assert sandbox_memory_bytes({"io.kubernetes.cri.sandbox-memory": "-5"}) == 0
    assert sandbox_memory_bytes({}) == 0


def test_a_size_that_is_no_number_is_refused_with_its_key():
    with pytest.raises(AnnotationError, match=r"sandbox-memory: '1Gi' is not a whole number"):
        sandbox_memory_bytes({"io.kubernetes.cri.sandbox-memory": "1Gi"})


def test_a_size_that_no_machine_can_count_is_refused():
    with pytest.raises(AnnotationError, match=r"sandbox-memory: '9{253}' is not a number of 64 bits"):
        sandbox_memory_bytes({"io.kubernetes.cri.sandbox-memory": "9" * 400})


def test_the_pods_names_are_bounded_lines():
    annotations = {
        "io.kubernetes.cri.sandbox-name": "web\n\x1b1",
        "io.kubernetes.cri.sandbox-namespace": "n" * 1000,
        "io.kubernetes.cri.sandbox-uid": "",
    }

    assert pod_names(annotations) == {"name": "web??1", "namespace": "n" * 253}
