"""Contract: a VM is as large as the defaults plus what its workload may use, and never larger than the host."""

from __future__ import annotations

import pytest

from sandbox.annotations import ContainerKind
from sandbox.oci import Cpu, Linux, Memory, Resources, Root, Spec
from sandbox.sizing import HostSize, VmSize, requested, vm_size

HOST = HostSize(cpus=8, memory_mib=16384)
GIB = 1 << 30


def spec(annotations=None, **resources) -> Spec:
    return Spec(root=Root("rootfs"), annotations=annotations or {}, linux=Linux(resources=Resources(**resources)))


@pytest.mark.parametrize(
    ("default_vcpus", "max_vcpus", "wanted", "vcpus"),
    [(1, 0, 0, 1), (1, 0, 1.5, 3), (0, 0, 0, 8), (-1, 0, 0, 8), (2, 2, 4, 2), (0.2, 0, 0.5, 1), (1, 0, 100, 8)],
)
def test_vcpus(default_vcpus, max_vcpus, wanted, vcpus):
    assert vm_size(default_vcpus, 2048, max_vcpus, (wanted, 0), HOST).vcpus == vcpus


def test_memory_is_the_default_plus_the_limit_rounded_up():
    assert vm_size(1, 2048, 0, (0, GIB + 1), HOST) == VmSize(1, 2048 + 1025)
    assert vm_size(1, 2048, 0, (0, 100 * GIB), HOST).memory_mib == HOST.memory_mib


def test_a_pod_is_sized_by_annotations_and_not_by_its_pause_container():
    annotations = {
        "io.kubernetes.cri.sandbox-cpu-quota": "200000",
        "io.kubernetes.cri.sandbox-cpu-period": "100000",
        "io.kubernetes.cri.sandbox-memory": str(GIB),
    }
    pod = spec(annotations, memory=Memory(limit=5 * GIB))
    assert requested(pod, ContainerKind.SANDBOX) == (2.0, GIB)


@pytest.mark.parametrize(("limit", "expected"), [(None, 0), (-1, 0), (GIB, GIB), ((1 << 63) - 4096, 0)])
def test_a_single_container_is_sized_by_its_limits(limit, expected):
    alone = spec(memory=Memory(limit=limit), cpu=Cpu(quota=50000, period=100000))
    assert requested(alone, ContainerKind.SINGLE) == (0.5, expected)


def test_no_limits_ask_for_nothing():
    assert requested(Spec(root=Root("rootfs")), ContainerKind.SINGLE) == (0.0, 0)
