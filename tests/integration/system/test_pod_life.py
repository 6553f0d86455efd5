"""Pods through CRI from beginning to end: removal, neighbours, sizes, what a pod may share."""

from __future__ import annotations

import asyncio

import pytest
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness import guest
from tests.harness.cri import Cri
from tests.integration.system.pods import STAY, linux, output, pod_linux

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

MIB = 1 << 20


async def test_a_pod_is_removed_with_its_containers_running_and_a_second_time_too(cri: Cri) -> None:
    pod = await cri.run_pod("removed", linux=pod_linux())
    await cri.run(pod, "stays", *STAY, linux=linux())
    await cri.run(pod, "deaf", "sleep", "1000", linux=linux())

    await cri.stop_pod(pod)
    status = await cri.pod_status(pod)
    await cri.stop_pod(pod)
    await cri.remove_pod(pod)
    await cri.remove_pod(pod)

    assert status.state is api.PodSandboxState.SANDBOX_NOTREADY
    with pytest.raises(GRPCError):
        await cri.pod_status(pod)


async def test_a_pod_that_runs_is_removed_by_force(cri: Cri) -> None:
    pod = await cri.run_pod("forced", linux=pod_linux())
    await cri.run(pod, "stays", *STAY, linux=linux())

    await cri.remove_pod(pod)

    with pytest.raises(GRPCError):
        await cri.pod_status(pod)


async def test_two_pods_start_at_the_same_time_and_are_two_machines(cri: Cri) -> None:
    one, other = await asyncio.gather(
        cri.run_pod("one", linux=pod_linux(), hostname="one"), cri.run_pod("other", linux=pod_linux(), hostname="other")
    )

    script = "hostname; cat /proc/sys/kernel/random/boot_id; ls /dev/shm; touch /dev/shm/mine"
    first, second = await asyncio.gather(
        output(cri, one, "c", "sh", "-c", script), output(cri, other, "c", "sh", "-c", script)
    )

    assert (first.split()[0], second.split()[0]) == ("one", "other")
    assert len({first.split()[1], second.split()[1], guest.host_boot_id()}) == 3
    assert len(first.split()) == len(second.split()) == 2
    await cri.remove_pod(one)
    assert await output(cri, other, "c", "echo", "alive") == "alive"


async def test_the_size_of_a_pod_s_machine_is_what_its_containers_may_use_together(cri: Cri) -> None:
    limits = api.LinuxContainerResources(cpu_quota=100_000, cpu_period=100_000, memory_limit_in_bytes=300 * MIB)
    pod = await cri.run_pod("sized", linux=pod_linux(resources=limits))

    script = "nproc; sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"
    vcpus, kib = map(int, (await output(cri, pod, "one", "sh", "-c", script)).split())

    assert vcpus == 2
    assert (2048 + 300) * 0.88 < kib / 1024 <= 2048 + 300
