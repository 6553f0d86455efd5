"""A pod of the Sandbox API: what its contract asks of the real pod (on a fake guest) and of the fake one alike, and
what only the real one does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from hypervisor.errors import HypervisorError
from protos.gen.grpc import CgroupStats, CpuStats, CpuUsage, StatsContainerResponse
from sandbox.errors import (
    AlreadyExistsError,
    DeadlineError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnimplementedError,
)
from sandbox.interface import ExitInfo, PodLife, PodSettings, ProcessStatus, SandboxIdentity, SandboxRequest
from sandbox.sizing import HostSize, VmSize
from tests.fakes.life import FakeLife
from tests.fakes.world import PATIENCE, World

pytestmark = pytest.mark.anyio

#: The pod's id in the fixture `world`.
ID = "c1"
KILLED = 137
#: A network namespace; nothing in it is carried to a fake VM.
NETNS = "/proc/self/ns/net"


def request(**fields: Any) -> SandboxRequest:
    """A request for the pod of `world`."""
    return SandboxRequest(**{"sandbox_id": ID, "bundle": Path("/bundles/c1"), "netns_path": NETNS, **fields})


@pytest.fixture(params=["real", "fake"])
def life(request: pytest.FixtureRequest, world: World) -> PodLife:
    """Both implementations of the contract."""
    identity = SandboxIdentity(ID, "default", "/c.sock", Path("/s.sock"))
    return world.sandbox.life if request.param == "real" else FakeLife(identity)


async def _up(world: World, **fields: Any) -> None:
    await world.sandbox.life.create(request(**fields))
    await world.sandbox.life.start(PATIENCE)


async def _member(world: World, container_id: str = "m1", **script: Any) -> None:
    world.agent.on_start(container_id, **script)
    await world.sandbox.create(world.bundle(container_id, "container"), PATIENCE)
    await world.sandbox.start(container_id, "")


# What the contract says


async def test_a_pod_is_ready_between_its_start_and_its_stop(life: PodLife) -> None:
    assert not life.exists
    await life.create(request())
    assert life.exists
    assert not life.status().is_ready

    status = await life.start(PATIENCE)
    assert status.is_ready
    assert status.pid > 0
    assert status.created_at_ns > 0

    await life.stop(0)
    with anyio.fail_after(PATIENCE):
        end = await life.wait()
    assert end.exit_status == 0
    assert not life.status().is_ready
    assert life.status().exited_at_ns == end.exited_at_ns
    assert life.exists


async def test_nothing_is_known_of_a_pod_before_it_is_created(life: PodLife) -> None:
    for call in (lambda: life.start(None), lambda: life.stop(0), life.wait, life.stats):
        with pytest.raises(NotFoundError):
            await call()
    with pytest.raises(NotFoundError):
        life.status()


async def test_a_pod_is_created_and_started_once(life: PodLife) -> None:
    await life.create(request())
    with pytest.raises(AlreadyExistsError):
        await life.create(request())
    await life.start(PATIENCE)
    with pytest.raises(FailedPreconditionError):
        await life.start(PATIENCE)
    await life.stop(0)
    with pytest.raises(FailedPreconditionError):
        await life.start(PATIENCE)


async def test_a_pod_can_be_stopped_again_and_without_a_start(life: PodLife) -> None:
    await life.create(request())
    await life.stop(0)
    await life.stop(5)
    with anyio.fail_after(PATIENCE):
        assert (await life.wait()).exit_status == 0


async def test_a_pod_waits_until_it_is_up_and_never_again(life: PodLife) -> None:
    assert not life.is_waiting
    await life.create(request())
    assert life.is_waiting
    await life.start(PATIENCE)
    assert not life.is_waiting
    await life.stop(0)
    assert not life.is_waiting


async def test_a_pod_is_updated_from_its_creation_to_its_end(life: PodLife) -> None:
    with pytest.raises(NotFoundError):
        await life.update(b"{}", {})
    await life.create(request())
    await life.update(None, {"a": "1"})
    await life.start(PATIENCE)
    await life.update(b"{}", {"a": "2"})
    await life.stop(0)
    with pytest.raises(FailedPreconditionError):
        await life.update(b"{}", {})


# What the real pod does


@pytest.fixture
def large_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.boot.host_size", lambda: HostSize(4, 8192))


def _memory(mib: int) -> bytes:
    return json.dumps({"memory": {"limit": mib << 20}}).encode()


def _size(world: World) -> VmSize:
    return world.sandbox.pod.require_machine().sizer.size


@pytest.mark.usefixtures("large_host")
async def test_a_running_pod_grows_and_shrinks_by_updates_and_tells_its_limits(world: World) -> None:
    await _up(world)

    await world.sandbox.life.update(_memory(128), {})
    await world.sandbox.life.update(_memory(512), {})
    assert _size(world) == VmSize(1, 2048 + 512)
    spec = json.loads(world.sandbox.life.status().spec)
    assert spec["annotations"]["io.kubernetes.cri.sandbox-memory"] == str(512 << 20)

    await world.sandbox.life.update(_memory(128), {})
    with anyio.fail_after(PATIENCE):
        while _size(world) != VmSize(1, 2048 + 128):
            await anyio.sleep(0.005)


@pytest.mark.usefixtures("large_host")
async def test_an_update_before_the_start_is_what_the_vm_boots_with(world: World) -> None:
    await world.sandbox.life.create(request())

    await world.sandbox.life.update(_memory(256), {})
    await world.sandbox.life.start(PATIENCE)

    assert world.sandbox.pod.require_machine().plan.vm.memory_mib == 2048 + 256


@pytest.mark.usefixtures("large_host")
async def test_an_update_that_fails_changes_nothing(world: World) -> None:
    await _up(world)
    before = world.sandbox.life.status().spec

    for resources, changes, error in (
        (_memory(1 << 20), {}, FailedPreconditionError),
        (None, {"io.katacontainers.config.hypervisor.default_vcpus": "2"}, FailedPreconditionError),
        (None, {"io.kubernetes.cri.sandbox-memory": "much"}, InvalidArgumentError),
        (b"[", {}, InvalidArgumentError),
    ):
        with pytest.raises(error):
            await world.sandbox.life.update(resources, changes)

    assert world.sandbox.life.status().spec == before
    assert _size(world) == VmSize(1, 2048)


async def test_a_failed_start_has_the_pod_wait_again(world: World) -> None:
    await world.sandbox.life.create(request())
    world.vm.start_error = HypervisorError("no such luck")
    with pytest.raises(UnavailableError, match="no such luck"):
        await world.sandbox.life.start(PATIENCE)

    assert world.sandbox.life.is_waiting


async def test_containers_come_and_go_and_the_pod_stays(world: World) -> None:
    await _up(world)
    assert not world.sandbox.is_empty
    for round_ in ("m1", "m2"):
        await _member(world, round_, exit_code=3)
        with anyio.fail_after(PATIENCE):
            assert (await world.sandbox.wait(round_, "")).exit_status == 3
        await world.sandbox.delete(round_, "")
    assert world.sandbox.life.status().is_ready
    assert world.vm.calls.count("start") == 1
    assert not world.sandbox.is_empty


async def test_a_container_that_names_no_pod_is_one_of_it(world: World) -> None:
    await _up(world)
    await world.sandbox.create(world.bundle("m1"), PATIENCE)

    assert world.sandbox.state("m1", "").status is ProcessStatus.CREATED


async def test_containers_have_the_pods_sysctls_and_files(world: World, no_mounts: list[tuple[str, str]]) -> None:
    await _up(world, settings=PodSettings("web", dns=("nameserver 9.9.9.9",), sysctls={"net.core.somaxconn": "99"}))
    spec = {"linux": {"sysctl": {"kernel.shm_rmid_forced": "1"}}}
    await world.sandbox.create(world.bundle("m1", "container", **spec), PATIENCE)

    asked = world.agent.requests("CreateContainer")[-1].oci
    assert asked.linux.sysctl == {"net.core.somaxconn": "99", "kernel.shm_rmid_forced": "1"}
    assert {"/etc/resolv.conf", "/etc/hosts", "/etc/hostname"} <= {item.destination for item in asked.mounts}
    files = world.sandbox.pod.pod_files
    assert str(files / "resolv.conf") in [source for source, _ in no_mounts]
    assert (files / "resolv.conf").read_text() == "nameserver 9.9.9.9\n"
    sandbox = world.agent.requests("CreateSandbox")[-1]
    assert (sandbox.hostname, sandbox.dns) == ("web", ["nameserver 9.9.9.9"])


@pytest.mark.parametrize(("container_id", "kind"), [("pause", "sandbox"), (ID, "container")])
async def test_a_container_of_the_pods_own_is_refused(world: World, container_id: str, kind: str) -> None:
    await _up(world)
    with pytest.raises(AlreadyExistsError, match="Sandbox API"):
        await world.sandbox.create(world.bundle(container_id, kind), PATIENCE)


async def test_no_container_before_the_start(world: World) -> None:
    await world.sandbox.life.create(request())
    for kind in ("container", None):
        with pytest.raises(FailedPreconditionError, match="is not running"):
            await world.sandbox.create(world.bundle(f"m-{kind}", kind), PATIENCE)
    assert world.vm.calls == []


async def test_a_pod_that_a_container_made_is_not_made_again(world: World) -> None:
    await world.single()
    with pytest.raises(AlreadyExistsError):
        await world.sandbox.life.create(request())


async def test_the_id_must_be_the_shims(world: World) -> None:
    with pytest.raises(InvalidArgumentError, match="c1"):
        await world.sandbox.life.create(request(sandbox_id="another"))


@pytest.mark.parametrize("path", ["relative", "/nonexistent/netns", "/proc/self/ns/uts", "/etc", "/a\0b"])
async def test_a_bad_network_namespace_fails_the_create(world: World, path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="namespace"):
        await world.sandbox.life.create(request(netns_path=path))
    assert not world.sandbox.life.exists
    assert world.sandbox.is_empty


@pytest.mark.parametrize(("name", "wish"), [("pid", "hostPID"), ("ipc", "hostIPC")])
async def test_a_namespace_of_the_host_fails_the_create(world: World, name: str, wish: str) -> None:
    with pytest.raises(UnimplementedError, match=wish):
        await world.sandbox.life.create(request(settings=PodSettings(host_namespaces=(name,))))

    assert not world.sandbox.life.exists


async def test_a_bad_annotation_fails_the_create(world: World) -> None:
    with pytest.raises(InvalidArgumentError, match="sandbox-memory"):
        await world.sandbox.life.create(request(annotations={"io.kubernetes.cri.sandbox-memory": "much"}))
    assert not world.sandbox.life.exists


async def test_a_failed_boot_leaves_nothing_and_may_be_tried_again(world: World) -> None:
    await world.sandbox.life.create(request())
    world.agent.block("CreateSandbox", times=1)
    with pytest.raises(DeadlineError, match="phase guest"):
        await world.sandbox.life.start(1.0)
    assert "kill" in world.vm.calls or "shutdown" in world.vm.calls
    assert not world.sandbox.life.status().is_ready
    assert world.sandbox.pod.machine is None


async def test_a_stop_gives_up_a_start(world: World) -> None:
    await world.sandbox.life.create(request())
    world.vm.start_gate = anyio.Event()
    failures: list[Exception] = []

    async def start() -> None:
        try:
            await world.sandbox.life.start(None)
        except UnavailableError as error:
            failures.append(error)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(start)
            while not world.vm.pid:
                await anyio.lowlevel.checkpoint()
            await world.sandbox.life.stop(0)
    assert len(failures) == 1
    assert "given up" in str(failures[0])
    assert (await world.sandbox.life.wait()).exit_status == 0


async def test_the_end_of_the_vm_is_the_end_of_all(world: World) -> None:
    await _up(world)
    await _member(world)
    world.vm.die()

    with anyio.fail_after(PATIENCE):
        container = await world.sandbox.wait("m1", "")
        pod = await world.sandbox.life.wait()
    assert (container.exit_status, pod.exit_status) == (KILLED, KILLED)
    status = world.sandbox.life.status()
    assert not status.is_ready
    assert "QEMU was killed" in status.info["cause"]
    assert world.sandbox.state(ID, "").status is ProcessStatus.STOPPED


async def test_a_stop_ends_the_containers_before_it_answers(world: World) -> None:
    await _up(world)
    await _member(world)

    with anyio.fail_after(PATIENCE):
        await world.sandbox.life.stop(0)

    assert world.sandbox.state("m1", "").status is ProcessStatus.STOPPED
    assert world.names() == ["TaskCreate", "TaskStart", "TaskExit"]
    assert not world.vm.started


async def test_a_stop_ends_a_container_that_was_never_started(world: World) -> None:
    await _up(world)
    await world.sandbox.create(world.bundle("m1", "container"), PATIENCE)

    with anyio.fail_after(1.5):
        await world.sandbox.life.stop(0)
        assert (await world.sandbox.wait("m1", "")).exit_status == KILLED


async def test_a_stop_with_time_asks_first(world: World) -> None:
    await _up(world)
    await _member(world)

    with anyio.fail_after(PATIENCE):
        await world.sandbox.life.stop(60)

    assert [call.signal for call in world.agent.requests("SignalProcess")] == [15]
    assert world.sandbox.state("m1", "").exit_status == 128 + 15


async def test_the_pod_answers_for_itself_as_a_task(world: World) -> None:
    await world.sandbox.life.create(request())
    assert world.sandbox.state(ID, "").status is ProcessStatus.CREATED
    await world.sandbox.life.start(PATIENCE)

    state = world.sandbox.state(ID, "")
    assert (state.status, state.pid, state.bundle) == (ProcessStatus.RUNNING, world.vm.pid, Path("/bundles/c1"))
    assert [item.pid for item in await world.sandbox.pids(ID)] == [world.vm.pid]


async def test_statistics_are_those_of_the_containers(world: World) -> None:
    await _up(world)
    for name in ("m1", "m2"):
        await _member(world, name)
    stats = StatsContainerResponse(cgroup_stats=CgroupStats(cpu_stats=CpuStats(cpu_usage=CpuUsage(total_usage=5))))
    world.agent.answer("StatsContainer", stats)

    total = await world.sandbox.life.stats()

    assert total.cgroup_stats.cpu_stats.cpu_usage.total_usage == 10


async def test_the_daemons_end_releases_who_waits(world: World) -> None:
    await _up(world)
    ends: list[ExitInfo] = []

    async def wait() -> None:
        ends.append(await world.sandbox.life.wait())

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            await world.sandbox.shutdown()
    assert [end.exit_status for end in ends] == [0]
