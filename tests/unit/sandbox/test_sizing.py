"""Contract: a VM is as large as the defaults plus what its workload may use, and never larger than the host."""

from __future__ import annotations

import pytest

from sandbox.annotations import ContainerKind
from sandbox.oci import Cpu, HugepageLimit, Linux, Memory, Resources, Root, Spec
from sandbox.sizing import HostSize, Limits, VmSize, cpu_count, requested, vm_size

HOST = HostSize(cpus=8, memory_mib=16384)
GIB = 1 << 30


def spec(annotations=None, **resources) -> Spec:
    return Spec(root=Root("rootfs"), annotations=annotations or {}, linux=Linux(resources=Resources(**resources)))


@pytest.mark.parametrize(
    ("default_vcpus", "max_vcpus", "wanted", "vcpus"),
    [
        (1, 0, 0, 1),
        (1, 0, 1.5, 3),
        (0, 0, 0, 1),
        (1, 0, 0.1 + 0.2 + 0.7, 2),
        (-1, 0, 0, 8),
        (2, 2, 4, 2),
        (0.2, 0, 0.5, 1),
        (1, 0, 100, 8),
    ],
)
def test_vcpus(default_vcpus, max_vcpus, wanted, vcpus):
    assert vm_size(default_vcpus, 2048, max_vcpus, Limits(wanted), HOST).vcpus == vcpus


def test_memory_is_the_default_plus_the_limit_rounded_up():
    assert vm_size(1, 2048, 0, Limits(0, 1025), HOST) == VmSize(1, 2048 + 1025)
    assert vm_size(1, 2048, 0, Limits(0, 100 << 10), HOST).memory_mib == HOST.memory_mib


def test_a_pod_is_sized_by_annotations_and_not_by_its_pause_container():
    annotations = {
        "io.kubernetes.cri.sandbox-cpu-quota": "200000",
        "io.kubernetes.cri.sandbox-cpu-period": "100000",
        "io.kubernetes.cri.sandbox-memory": str(GIB),
    }
    pod = spec(annotations, memory=Memory(limit=5 * GIB))
    assert requested(pod, ContainerKind.SANDBOX) == Limits(2.0, 1024)


@pytest.mark.parametrize(("limit", "expected"), [(None, 0), (-1, 0), (GIB + 1, 1025), ((1 << 63) - 4096, 0)])
def test_a_single_container_is_sized_by_its_limits(limit, expected):
    alone = spec(memory=Memory(limit=limit), cpu=Cpu(quota=50000, period=100000))
    assert requested(alone, ContainerKind.SINGLE) == Limits(0.5, expected)


def test_no_limits_ask_for_nothing():
    assert requested(Spec(root=Root("rootfs")), ContainerKind.SINGLE) == Limits()


def test_huge_pages_are_memory_of_their_own():
    alone = spec(memory=Memory(limit=GIB), hugepage_limits=[HugepageLimit("2MB", GIB)])
    assert requested(alone, ContainerKind.SINGLE) == Limits(0, 2048)


@pytest.mark.parametrize(
    ("cpu", "cpus"),
    [
        (Cpu(quota=-1, period=100000, cpus="0-1,5"), 3),
        (Cpu(quota=150000, cpus="0-1"), 1.5),
        (Cpu(quota=150000, period=-5), 1.5),
        (Cpu(cpus="nonsense"), 0),
        (Cpu(shares=2048), 0),
    ],
)
def test_a_set_of_host_cpus_counts_where_there_is_no_quota(cpu, cpus):
    assert requested(spec(cpu=cpu), ContainerKind.SINGLE) == Limits(cpus)


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-3", 4), ("0,0,1", 2), ("", 0), ("1-", 0), ("99999", 0)])
def test_cpus_of_a_list(text, count):
    assert cpu_count(text) == count
