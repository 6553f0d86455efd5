"""A pod has the size that Kubernetes gave it and follows the limits of its containers; its use is told through CRI."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

import config
from protos.gen.runtime import v1 as api
from tests.harness import processes
from tests.harness.bed import Bed
from tests.harness.cri import Container, Cri, Pod
from tests.harness.runtimes import KATA
from tests.harness.waiting import eventually_async
from tests.integration.system.pods import linux, pod_linux, running

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

MIB = 1 << 20
PATIENCE = 60.0
POD_MIB = 256
RUNTIMES = (KATA,)
#: What kubelet sends for a pod whose containers may use so much together. The pod's cgroup is where a bed's may be.
POD = {
    "annotations": {"io.katacontainers.config.runtime.sandbox_cgroup_only": "true"},
    "linux": pod_linux(
        cgroup_parent="/k8s.io",
        resources=api.LinuxContainerResources(
            cpu_quota=100_000, cpu_period=100_000, memory_limit_in_bytes=POD_MIB * MIB
        ),
    ),
}


def resources(mib: int, cpus: float = 0) -> api.LinuxContainerResources:
    """Limits of a container."""
    return api.LinuxContainerResources(
        cpu_quota=int(cpus * 100_000), cpu_period=100_000 if cpus else 0, memory_limit_in_bytes=mib * MIB
    )


async def memory_mib(cri: Cri, box: Container) -> int:
    """The guest's memory, without what its kernel keeps for itself."""
    return int((await cri.exec(box, "grep", "MemTotal", "/proc/meminfo")).text.split()[1]) >> 10


async def wait_for_memory(cri: Cri, box: Container, expected: int) -> None:
    """Wait until the guest has so much, give or take what its kernel keeps."""

    async def reached() -> bool:
        return abs(await memory_mib(cri, box) - expected) <= 8

    await eventually_async(reached, f"the guest has {expected} MiB", PATIENCE)


async def update(cri: Cri, container: Container, limits: api.LinuxContainerResources) -> None:
    """UpdateContainerResources."""
    request = api.UpdateContainerResourcesRequest(container_id=container.id, linux=limits)
    await cri.runtime.update_container_resources(request, timeout=PATIENCE)


async def file(cri: Cri, container: Container, name: str) -> str:
    """A file of the container's cgroup in the guest."""
    return (await cri.exec(container, "cat", f"/sys/fs/cgroup/{name}")).text


async def test_the_vm_starts_with_what_the_pods_containers_may_use(
    bed: Bed, cri: Cri, pod: Pod, box: Container
) -> None:
    (qemu,) = processes.find(rf"guest={pod.id}", bed.containerd.processes())
    started = re.search(r" -m (?:size=)?(\d+)", qemu.command)
    cpus = int((await cri.exec(box, "nproc")).text)

    assert started is not None
    assert int(started[1]) == config.load(bed.configuration).hypervisor.default_memory + POD_MIB
    assert cpus == min(2, len(os.sched_getaffinity(0)))


async def test_the_vm_grows_beyond_it_for_a_container_and_its_updates_and_back(
    cri: Cri, pod: Pod, box: Container
) -> None:
    before = await memory_mib(cri, box)

    async with running(cri, pod, "large", linux=linux(resources=resources(POD_MIB + 128, 0.5))) as large:
        assert abs(await memory_mib(cri, box) - before - 128) <= 8
        assert await file(cri, large, "cpu.max") == "50000 100000"
        await update(cri, large, resources(POD_MIB + 256, 0.25))
        assert abs(await memory_mib(cri, box) - before - 256) <= 8
        assert await file(cri, large, "memory.max") == str((POD_MIB + 256) * MIB)
        assert await file(cri, large, "cpu.max") == "25000 100000"
        await update(cri, large, resources(POD_MIB + 128))
        await wait_for_memory(cri, box, before + 128)
        assert await file(cri, large, "memory.max") == str((POD_MIB + 128) * MIB)

    await wait_for_memory(cri, box, before)


async def test_what_can_not_be_had_is_refused_and_neither_container_notices(cri: Cri, pod: Pod, box: Container) -> None:
    before = await memory_mib(cri, box)
    eat = "dd if=/dev/zero of=/dev/shm/eaten bs=1M count=40 2>/dev/null; echo full; exec sleep 3600"

    async with running(cri, pod, "small", "sh", "-c", eat, linux=linux(resources=resources(96))) as small:
        await eventually_async(lambda: _is_full(small), "the memory is in use", PATIENCE)
        with pytest.raises(GRPCError, match="the VM would need"):
            await update(cri, small, resources(1 << 24))
        with pytest.raises(GRPCError, match="its limit can't become"):
            await update(cri, small, resources(16))
        assert await file(cri, small, "memory.max") == str(96 * MIB)
        assert (await cri.status(small)).state == api.ContainerState.CONTAINER_RUNNING
        await cri.exec(small, "rm", "/dev/shm/eaten")
    assert abs(await memory_mib(cri, box) - before) <= 8
    assert (await cri.status(box)).state == api.ContainerState.CONTAINER_RUNNING


async def _is_full(container: Container) -> bool:
    return any(line.text == "full" for line in container.log())


async def test_containers_and_pod_tell_what_they_use(cri: Cri, pod: Pod, box: Container) -> None:
    one = await cri.stats(box)
    request = api.PodSandboxStatsRequest(pod_sandbox_id=pod.id)
    whole = (await cri.runtime.pod_sandbox_stats(request, timeout=PATIENCE)).stats
    listed = await cri.runtime.list_pod_sandbox_stats(
        api.ListPodSandboxStatsRequest(filter=api.PodSandboxStatsFilter(id=pod.id)), timeout=PATIENCE
    )

    assert _used(one) > 0
    assert whole is not None
    assert whole.linux is not None
    # The VM's share of the host, by the pod's cgroup: at least what the guest says that one of its containers uses.
    # By the Sandbox API, since containerd 2.3, it is what the shim tells: the sum over the containers.
    assert _used(whole.linux) >= _used(one)
    (container,) = whole.linux.containers
    assert container.attributes is not None
    assert container.attributes.id == box.id
    assert [item.attributes.id for item in listed.stats if item.attributes] == [pod.id]


def _used(stats: Any) -> int:
    """Bytes of a working set; the CPU time must be told as well."""
    assert stats.cpu.usage_core_nano_seconds.value > 0
    return int(stats.memory.working_set_bytes.value)
