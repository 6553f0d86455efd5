"""Contract: the VM has what its containers may use, within what it may have; each change is whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from grpclib.const import Status

from hypervisor.vm import VmSpec
from protos.gen import grpc as pb
from sandbox.errors import DeadlineError, FailedPreconditionError, SandboxError, UnavailableError
from sandbox.oci import Cpu, HugepageLimit, Memory, Resources
from sandbox.resources import pod_cgroup
from sandbox.resources.demand import Range, changed
from sandbox.resources.hierarchies import Hierarchy, HostCgroups
from sandbox.sizing import HostSize, Limits, VmSize
from tests.fakes.world import World

pytestmark = pytest.mark.anyio
PATIENCE = 5.0
MIB = 1 << 20


@pytest.fixture(autouse=True)
def large_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.boot.host_size", lambda: HostSize(4, 8192))


def limits(cpus: float = 0, memory_mib: int = 0) -> dict[str, object]:
    return {
        "cpu": {"quota": int(cpus * 100_000) or -1, "period": 100_000},
        "memory": {"limit": memory_mib * MIB or -1},
    }


async def pod(world: World) -> None:
    await world.sandbox.create(world.bundle("c1", "sandbox"), PATIENCE)


async def member(world: World, name: str, **resources: object) -> None:
    bundle = world.bundle(name, "container", linux={"resources": limits(**resources)})
    await world.sandbox.create(bundle, PATIENCE)


async def update(world: World, name: str, **resources: object) -> None:
    await world.sandbox.update(name, json.dumps(limits(**resources)).encode())


def size(world: World) -> VmSize:
    return world.sandbox.pod.require_machine().sizer.size


async def reached(world: World, expected: VmSize) -> None:
    with anyio.fail_after(PATIENCE):
        while size(world) != expected:
            await anyio.sleep(0.005)


async def test_a_container_makes_it_grow_and_the_guest_is_told(world: World):
    await pod(world)

    await member(world, "a", cpus=1.5, memory_mib=200)

    assert size(world) == VmSize(3, 2048 + 256)
    told = world.agent.requests("OnlineCPUMem")[-1]
    assert (told.nb_cpus, told.cpu_only, told.wait) == (3, False, True)


async def test_containers_without_limits_cost_nothing(world: World):
    await pod(world)

    await member(world, "a")

    assert size(world) == VmSize(1, 2048)
    assert not world.vm.monitor.commands


async def test_it_shrinks_when_a_limit_falls_and_when_a_container_goes(world: World):
    await pod(world)
    await member(world, "b", memory_mib=256)
    await member(world, "a", memory_mib=128)
    await update(world, "b", memory_mib=384)
    assert size(world) == VmSize(1, 2048 + 512)

    await update(world, "b", memory_mib=256)
    await reached(world, VmSize(1, 2048 + 512 - 128))
    await world.sandbox.delete("a", "")
    await reached(world, VmSize(1, 2048 + 256))
    await world.sandbox.delete("b", "")
    await reached(world, VmSize(1, 2048))


async def test_an_update_that_the_guest_refuses_takes_back_what_it_got(world: World):
    await pod(world)
    await member(world, "a", memory_mib=128)
    world.agent.fail("UpdateContainer", Status.FAILED_PRECONDITION, "its limit can't become 5")

    with pytest.raises(FailedPreconditionError, match=r"update container a: .*its limit can't become 5"):
        await update(world, "a", memory_mib=640)

    await reached(world, VmSize(1, 2048 + 128))


async def test_more_memory_than_there_can_be_is_refused_before_anything_is_touched(world: World):
    await pod(world)
    await member(world, "a", memory_mib=128)

    with pytest.raises(FailedPreconditionError, match="the VM would need 12048 MiB, and may have 8192"):
        await update(world, "a", memory_mib=10000)

    assert size(world) == VmSize(1, 2048 + 128)
    assert not world.agent.requests("UpdateContainer")


async def test_a_new_container_may_have_a_larger_limit_than_the_vm(world: World):
    await pod(world)

    await member(world, "a", cpus=100, memory_mib=10000)

    assert size(world) == VmSize(4, 8192)


async def test_a_vm_that_can_not_grow_fails_the_container_and_no_other(world: World):
    await pod(world)
    await member(world, "a", memory_mib=128)
    world.vm.monitor.errors["device_add"] = "not enough space"

    with pytest.raises(UnavailableError, match=r"make room for container b: plug in .* not enough space"):
        await member(world, "b", memory_mib=128)

    assert size(world) == VmSize(1, 2048 + 128)
    assert not [item for item in world.agent.requests("CreateContainer") if item.container_id == "b"]
    del world.vm.monitor.errors["device_add"]
    await member(world, "d", memory_mib=128)
    assert size(world) == VmSize(1, 2048 + 256)


async def test_a_container_that_the_guest_does_not_make_gives_back_what_it_got(world: World):
    await pod(world)
    world.agent.fail("CreateContainer", Status.INVALID_ARGUMENT, "no")

    with pytest.raises(SandboxError):
        await member(world, "a", memory_mib=128)

    await reached(world, VmSize(1, 2048))


async def test_creations_at_the_same_time_add_up(world: World):
    await pod(world)

    async with anyio.create_task_group() as group:
        for name in ("a", "b", "d"):
            group.start_soon(partial(member, world, name, cpus=1, memory_mib=128))

    assert size(world) == VmSize(4, 2048 + 384)


async def test_without_unplugging_the_guest_puts_cpus_to_sleep_and_wakes_them_again(world: World):
    details = pb.GuestDetailsResponse(agent_details=pb.AgentDetails(extra_features=["cpu-offline"]))
    world.agent.answer("GetGuestDetails", lambda _: details)
    await pod(world)
    await member(world, "a", cpus=2)
    await update(world, "a", cpus=1)
    await reached(world, VmSize(2, 2048))
    told = world.agent.requests("OnlineCPUMem")[-1]
    assert (told.nb_cpus, told.cpu_only, told.most_cpus) == (0, True, 2)

    await update(world, "a", cpus=3)

    assert size(world) == VmSize(4, 2048)
    told = world.agent.requests("OnlineCPUMem")[-1]
    assert (told.nb_cpus, told.most_cpus) == (2, 4)
    assert sorted(world.vm.monitor.devices) == ["vcpu-1", "vcpu-2", "vcpu-3"]


@pytest.mark.parametrize(("agent_features", "told"), [([], 2), (["cpu-offline"], 1)])
async def test_after_a_growth_that_failed_half_way_the_next_one_is_whole(
    world: World, agent_features: list[str], told: int
):
    details = pb.GuestDetailsResponse(agent_details=pb.AgentDetails(extra_features=agent_features))
    world.agent.answer("GetGuestDetails", lambda _: details)
    await pod(world)
    world.vm.monitor.errors["object-add"] = "not enough space"
    with pytest.raises(UnavailableError):
        await member(world, "a", cpus=2, memory_mib=128)
    assert size(world) == VmSize(1, 2048)
    del world.vm.monitor.errors["object-add"]

    await member(world, "b", cpus=1, memory_mib=128)

    assert size(world) == VmSize(2, 2048 + 128)
    assert [request.nb_cpus for request in world.agent.requests("OnlineCPUMem") if request.nb_cpus] == [told]


async def test_kata_s_guest_that_is_slow_with_its_cpus_gets_its_memory_and_its_container(world: World):
    await pod(world)
    # Kata's agent gives up by itself, with CPUs and memory alike.
    world.agent.fail("OnlineCPUMem", Status.INTERNAL, "failed to online 3 CPU(s) after 100 retries", times=1)

    await member(world, "a", cpus=2, memory_mib=128)

    told = world.agent.requests("OnlineCPUMem")
    assert [(request.nb_cpus, request.cpu_only) for request in told] == [(3, False), (0, False)]
    assert size(world) == VmSize(3, 2048 + 128)


async def test_a_vcpu_that_came_and_can_not_go_is_used_by_the_next_growth(world: World):
    await pod(world)
    world.vm.monitor.unanswered.add("device_add")
    with pytest.raises(UnavailableError, match="no answer within 5 s"):
        await member(world, "a", cpus=1)
    assert size(world) == VmSize(1, 2048)
    world.vm.monitor.unanswered.clear()

    await member(world, "b", cpus=2)

    assert size(world) == VmSize(3, 2048)
    assert sorted(world.vm.monitor.devices) == ["vcpu-1", "vcpu-2"]
    assert world.agent.requests("OnlineCPUMem")[-1].nb_cpus == 3


async def test_what_the_guest_was_not_told_of_is_taken_back(world: World):
    await pod(world)
    sizer = world.sandbox.pod.require_machine().sizer
    sizer._unplugs = True
    world.agent.fail("OnlineCPUMem", Status.INTERNAL, "no")

    with pytest.raises(SandboxError, match="make room for container a"):
        await member(world, "a", cpus=2, memory_mib=128)

    with anyio.fail_after(PATIENCE):
        while world.vm.monitor.devices or world.vm.monitor.memory:
            await anyio.sleep(0.005)
    assert size(world) == VmSize(1, 2048)


class TestStatic:
    @pytest.fixture
    def vm_settings(self) -> str:
        return "[runtime]\nstatic_sandbox_resource_mgmt = true"

    async def test_a_static_vm_keeps_its_size_and_limits_still_hold_in_the_guest(self, world: World):
        await pod(world)
        await member(world, "a", cpus=2, memory_mib=512)
        await update(world, "a", cpus=2, memory_mib=100_000)

        assert size(world) == VmSize(1, 2048)
        assert not world.vm.monitor.commands
        assert world.agent.requests("UpdateContainer")[-1].resources.memory.limit == 100_000 * MIB


BOUNDS = Range(VmSize(1, 2048), VmSize(8, 16384), 1.0, 2048)


@pytest.mark.parametrize(
    ("demand", "wanted"),
    [
        ([], VmSize(1, 2048)),
        ([Limits(0.1, 1), Limits(0.2, 2), Limits(0.7, 3)], VmSize(2, 2054)),
        ([Limits(2.5, 100_000)], VmSize(4, 102_048)),
    ],
)
def test_the_limits_of_all_come_on_top_of_the_vms_own_share(demand, wanted):
    assert BOUNDS.wanted(demand) == wanted


def test_a_vm_never_has_more_than_it_may():
    assert BOUNDS.bounded(VmSize(9, 102_048)) == VmSize(8, 16384)


@pytest.mark.parametrize(
    ("resources", "limits"),
    [
        (Resources(), Limits(1, 100)),
        (Resources(cpu=Cpu(shares=5)), Limits(1, 100)),
        (Resources(cpu=Cpu(quota=-1)), Limits(0, 100)),
        (Resources(memory=Memory(limit=-1)), Limits(1, 0)),
        (Resources(memory=Memory(reservation=5)), Limits(1, 100)),
        (Resources(cpu=Cpu(cpus="0-2"), hugepage_limits=[HugepageLimit("2MB", MIB)]), Limits(3, 1)),
    ],
)
def test_an_update_leaves_as_it_is_what_it_does_not_name(resources, limits):
    assert changed(Limits(1, 100), resources) == limits


def test_virtio_mem_has_whole_memory_blocks_only(tmp_path):
    spec = VmSpec("a", tmp_path, tmp_path, tmp_path, 1, 2100, "tcg", max_memory_mib=2500, virtio_mem=True)

    assert spec.virtio_mem_mib == 384
    assert replace(spec, max_memory_mib=0).virtio_mem_mib == 0
    assert replace(spec, virtio_mem=False).virtio_mem_mib == 0


async def test_the_threads_of_vcpus_are_told_and_told_again_when_there_are_more(world: World):
    world.vm.monitor.answers["query-cpus-fast"] = [{"thread-id": 7}, {"thread-id": 7}]
    await pod(world)
    told: list[list[int]] = []
    await world.sandbox.pod.require_machine().sizer.follow_vcpus(told.append)

    world.vm.monitor.answers["query-cpus-fast"].append({"thread-id": 9})
    await member(world, "a", memory_mib=128)
    await member(world, "b", cpus=1)

    assert told == [[7], [7, 9]]


async def test_a_pod_is_started_where_cgroups_can_not_be_made(world: World, tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    world.host_cgroups = HostCgroups((Hierarchy(blocked, frozenset({"cpu"})),), "1:cpu:/\n")

    await pod(world)

    assert world.sandbox.pod.cgroup is None


async def test_vcpu_threads_are_placed_in_the_pods_cgroup(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pod_cgroup, "LEAVE_TIMEOUT", 0)
    placed: list[list[int]] = []
    monkeypatch.setattr(pod_cgroup.PodCgroup, "place_vcpus", lambda _, __, threads: placed.append(threads))
    world.vm.monitor.answers["query-cpus-fast"] = [{"thread-id": 7}]
    (tmp_path / "cpu").mkdir()
    world.host_cgroups = HostCgroups((Hierarchy(tmp_path / "cpu", frozenset({"cpu"})),), "1:cpu:/\n")

    await pod(world)

    assert placed == [[7]]
    assert (tmp_path / "cpu" / "kata_overhead" / "c1" / "cgroup.procs").read_text() == str(os.getpid())


async def test_a_start_that_is_given_up_while_vcpus_are_placed_leaves_no_vm(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pod_cgroup, "LEAVE_TIMEOUT", 0)
    world.vm.monitor.late["query-cpus-fast"] = anyio.Event()
    (tmp_path / "cpu").mkdir()
    world.host_cgroups = HostCgroups((Hierarchy(tmp_path / "cpu", frozenset({"cpu"})),), "1:cpu:/\n")

    with pytest.raises(DeadlineError, match="everything is undone"):
        await world.sandbox.create(world.bundle("c1", "sandbox"), 1.0)

    assert world.sandbox.pod.machine is None
    assert (await world.vm.wait()).reason
