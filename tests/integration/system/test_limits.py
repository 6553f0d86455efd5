"""Limits of the OCI spec hold in the guest, can be changed, and can be seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protos import anys
from protos.gen.containerd.task.v2 import StatsRequest, UpdateTaskRequest
from protos.gen.io.containerd.cgroups.v1 import Metrics as MetricsV1
from protos.gen.io.containerd.cgroups.v2 import Metrics as MetricsV2
from protos.gen.wellknown import Any as AnyMessage
from sandbox.guest_processes import BASE
from tests.harness.events import watch
from tests.integration.system.vm import Vm

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

MIB = 1 << 20
#: Fills memory until somebody stops it.
EAT = "tail /dev/zero"
#: Where a container sees its own cgroup.
CGROUP = "cd /sys/fs/cgroup;"


def _resources(**resources: Any) -> dict[str, Any]:
    return {"resources": resources}


def test_limits_of_the_spec_are_in_the_containers_cgroup(vm: Vm) -> None:
    limits = _resources(
        memory={"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 64 * MIB},
        cpu={"quota": 25_000, "period": 50_000, "shares": 512},
        pids={"limit": 33},
    )

    done = vm.run_spec(
        "sh", "-c", CGROUP + "cat memory.max memory.low memory.swap.max cpu.max cpu.weight pids.max", linux=limits
    )

    assert done.check().text.split("\n") == [str(64 * MIB), str(32 * MIB), "0", "25000 50000", "20", "33"]


def test_a_container_that_takes_too_much_memory_is_killed_and_that_is_told_before_its_exit(vm: Vm) -> None:
    container = vm.new_id()
    with watch(vm.ctr) as events:
        done = vm.run("sh", "-c", f"exec {EAT}", options=("--memory-limit", str(32 * MIB)), container=container)
        events.expect("/tasks/delete", container)

    assert done.returncode == 137
    topics = [topic for topic, _ in events.of(container)]
    assert topics == ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete"]


def test_a_container_outlives_a_child_that_took_too_much_memory_and_that_is_told_at_once(vm: Vm) -> None:
    with watch(vm.ctr) as events, vm.container(linux=_resources(memory={"limit": 32 * MIB})) as container:
        done = vm.exec(container, "sh", "-c", f"{EAT}; echo ended with $?")

        events.expect("/tasks/oom", container)
        assert done.text == "ended with 137"
        assert vm.ctr.tasks()[container] == "RUNNING"


def test_no_more_processes_than_allowed(vm: Vm) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100 & done; echo not reached"

    done = vm.run_spec("sh", "-c", script, linux=_resources(pids={"limit": 8}))

    assert "not reached" not in done.text
    assert "can't fork: Resource temporarily unavailable" in done.error_text


def test_a_cpu_quota_throttles(vm: Vm) -> None:
    script = CGROUP + "n=0; while [ $n -lt 3000 ]; do n=$((n+1)); done; grep nr_throttled cpu.stat"

    done = vm.run_spec("sh", "-c", script, linux=_resources(cpu={"quota": 5_000, "period": 50_000}))

    assert int(done.check().text.split()[1]) > 0


async def test_an_update_changes_the_limits_of_a_running_container(vm: Vm) -> None:
    limits = {
        "memory": {"limit": 96 * MIB},
        "cpu": {"quota": 30_000, "period": 100_000, "shares": 2048},
        "pids": {"limit": 44},
    }
    with vm.container(linux=_resources(memory={"limit": 64 * MIB}, pids={"limit": 33})) as container:
        async with vm.task() as task:
            packed = AnyMessage(type_url=anys.LINUX_RESOURCES_URL, value=json.dumps(limits).encode())
            await task.update(UpdateTaskRequest(id=container, resources=packed))

        done = vm.exec(container, "sh", "-c", CGROUP + "cat memory.max cpu.max cpu.weight pids.max")

    assert done.check().text.split("\n") == [str(96 * MIB), "30000 100000", "79", "44"]


async def test_statistics_are_of_the_kind_that_this_host_s_containerd_reads(vm: Vm) -> None:
    limits = _resources(memory={"limit": 64 * MIB}, pids={"limit": 33})
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    with vm.container("sleep", "1000", linux=limits) as container:
        async with vm.task() as task:
            packed = (await task.stats(StatsRequest(id=container))).stats

    assert packed is not None
    assert packed.type_url == f"io.containerd.cgroups.v{2 if unified else 1}.Metrics"
    if unified:
        _check_v2(anys.unpack(packed, MetricsV2))
    else:
        _check_v1(anys.unpack(packed, MetricsV1))


def _check_v1(metrics: MetricsV1) -> None:
    memory, pids, cpu = metrics.memory, metrics.pids, metrics.cpu
    assert memory is not None
    assert memory.usage is not None
    assert memory.usage.limit == 64 * MIB
    assert 0 < memory.usage.usage < 64 * MIB
    assert pids is not None
    assert (pids.limit, pids.current) == (33, 1)
    assert cpu is not None
    assert cpu.usage is not None
    assert cpu.usage.total > 0


def _check_v2(metrics: MetricsV2) -> None:
    memory, pids, cpu = metrics.memory, metrics.pids, metrics.cpu
    assert memory is not None
    assert memory.usage_limit == 64 * MIB
    assert 0 < memory.usage < 64 * MIB
    assert pids is not None
    assert (pids.limit, pids.current) == (33, 1)
    assert cpu is not None
    assert cpu.usage_usec > 0


def test_ctr_shows_metrics_and_processes(vm: Vm) -> None:
    with vm.container("sleep", "1000", linux=_resources(memory={"limit": 64 * MIB})) as container:
        metrics = vm.ctr("task", "metrics", container).check().text
        listed = vm.ctr("task", "ps", container).check().text.splitlines()[1:]

    rows = dict(line.split(maxsplit=1) for line in metrics.splitlines()[3:])
    usage = int(rows.get("memory.usage_in_bytes", rows.get("memory.usage", "0")))
    assert 0 < usage < 64 * MIB
    assert int(rows.get("cpuacct.usage", rows.get("cpu.usage_usec", "0"))) > 0
    pids = sorted(int(line.split()[0]) for line in listed)
    # The process of the host that stands for the container, its VM; and the container's own, as no host's pids.
    assert Path(f"/proc/{pids[0]}/comm").read_text().startswith("qemu-system")
    assert pids[1:] == [BASE + 1]
