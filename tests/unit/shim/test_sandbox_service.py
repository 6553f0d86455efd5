"""The Sandbox service over real ttrpc, with a fake pod behind it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos import anys, timestamps
from protos.codec import MessageCodec
from protos.gen.containerd.runtime.sandbox import v1
from protos.gen.containerd.task import v2
from protos.gen.io.containerd.cgroups import v1 as cgroups_v1
from protos.gen.io.containerd.cgroups import v2 as cgroups_v2
from protos.gen.runtime.v1 import DnsConfig, LinuxPodSandboxConfig, PodSandboxConfig
from protos.gen.wellknown import Any as Any_
from sandbox.errors import UnavailableError
from sandbox.interface import SandboxIdentity
from shim.lifetime import Lifetime
from shim.metrics import host
from shim.sandbox_service import SandboxService
from shim.stdio.streams import StdioOpener
from shim.task import TaskService
from tests.fakes.pod import VM_PID, FakePod
from ttrpc.client import Channel
from ttrpc.server import Server

pytestmark = pytest.mark.anyio

ID = "s1"


class World:
    """A served fake pod, and a client of both services."""

    def __init__(self, root: Path, pod: FakePod, lifetime: Lifetime, channel: Any) -> None:
        self.root = root
        self.pod = pod
        self.lifetime = lifetime
        self.client = v1.SandboxStub(channel)
        self.task = v2.TaskStub(channel)

    async def create(self, sandbox_id: str = ID, **fields: Any) -> None:
        fields.setdefault("bundle_path", str(self.root))
        await self.client.create_sandbox(v1.CreateSandboxRequest(sandbox_id=sandbox_id, **fields))

    async def start(self, **options: Any) -> v1.StartSandboxResponse:
        return await self.client.start_sandbox(v1.StartSandboxRequest(sandbox_id=ID), **options)

    async def running(self) -> None:
        await self.create()
        await self.start()

    async def status(self, verbose: bool = False) -> v1.SandboxStatusResponse:
        return await self.client.sandbox_status(v1.SandboxStatusRequest(sandbox_id=ID, verbose=verbose))

    async def stop(self, seconds: int = 0) -> None:
        await self.client.stop_sandbox(v1.StopSandboxRequest(sandbox_id=ID, timeout_secs=seconds))

    async def wait(self) -> v1.WaitSandboxResponse:
        return await self.client.wait_sandbox(v1.WaitSandboxRequest(sandbox_id=ID))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with _world(tmp_path) as made:
        yield made


@asynccontextmanager
async def _world(root: Path, idle_timeout: float = 60.0) -> AsyncIterator[World]:
    path = root / "shim.sock"
    identity = SandboxIdentity(ID, "ns", "/c.sock", path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen()
    async with FakePod(identity, open_stdio=StdioOpener("ns"), publish=lambda _: None) as pod:
        lifetime = Lifetime(lambda: pod.is_empty or pod.life.is_waiting, idle_timeout)
        services = [TaskService(pod, lifetime), SandboxService(pod, lifetime, ID)]
        async with Server(services, MessageCodec()) as server:
            await server.listen(listener)
            channel: Any = await Channel.connect_unix(path, MessageCodec(), timeout=5)
            try:
                with anyio.fail_after(20):
                    yield World(root, pod, lifetime, channel)
            finally:
                channel.close()
                await server.close(0)


async def _fails(status: Status, call: Awaitable[Any]) -> str:
    with pytest.raises(GRPCError) as raised:
        await call
    assert raised.value.status is status, raised.value
    return raised.value.message or ""


async def test_the_life_of_a_sandbox(world: World) -> None:
    await world.create()
    assert (await world.status()).state == "SANDBOX_NOTREADY"
    started = await world.start()
    ready = await world.status()
    await world.stop()
    end = await world.wait()
    over = await world.status()

    assert started.pid == VM_PID
    assert (ready.sandbox_id, ready.pid, ready.state) == (ID, VM_PID, "SANDBOX_READY")
    assert ready.created_at == started.created_at
    assert started.created_at is not None
    assert timestamps.to_ns(started.created_at) > 0
    assert ready.exited_at is None
    assert end.exit_status == 0
    assert over.state == "SANDBOX_NOTREADY"
    assert over.exited_at == end.exited_at


async def test_start_answers_with_a_spec_under_containerds_name(world: World) -> None:
    await world.create()
    spec = (await world.start()).spec

    assert spec is not None
    assert spec.type_url == "types.containerd.io/opencontainers/runtime-spec/1/Spec"
    assert isinstance(json.loads(spec.value), dict)


async def test_info_is_for_those_who_ask(world: World) -> None:
    await world.running()

    assert (await world.status()).info == {}
    assert (await world.status(verbose=True)).info == {"stage": "ready"}


async def test_the_platform_is_gos_name_of_this_machine(world: World) -> None:
    await world.running()
    answer = (await world.client.platform(v1.PlatformRequest(sandbox_id=ID))).platform

    assert answer is not None
    assert answer.os == "linux"
    assert answer.architecture in ("amd64", "arm64")


async def test_waiters_are_released_when_the_vm_is_killed(world: World) -> None:
    await world.running()
    ends: list[v1.WaitSandboxResponse] = []

    async def wait() -> None:
        ends.append(await world.wait())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
        await world.client.ping_sandbox(v1.PingRequest(sandbox_id=ID))
        world.pod.life.end(137)

    assert [end.exit_status for end in ends] == [137] * 3
    assert (await world.status()).state == "SANDBOX_NOTREADY"


async def test_stop_has_the_callers_seconds_but_no_more_than_it_waits(world: World) -> None:
    await world.running()
    await world.stop(7)
    assert world.pod.life.grace == 7

    request = v1.StopSandboxRequest(sandbox_id=ID, timeout_secs=3600)
    await world.client.stop_sandbox(request, timeout=5)
    assert world.pod.life.grace is not None
    assert world.pod.life.grace < 5


async def test_start_keeps_a_margin_of_the_callers_time(world: World) -> None:
    await world.create()
    await world.start(timeout=10)

    assert world.pod.life.start_timeout is not None
    assert 5 < world.pod.life.start_timeout < 9.5


async def test_metrics_are_of_the_hosts_kind(world: World) -> None:
    await world.running()
    metrics = (await world.client.sandbox_metrics(v1.SandboxMetricsRequest(sandbox_id=ID))).metrics

    assert metrics is not None
    assert metrics.id == ID
    assert metrics.data is not None
    if host.host_is_unified():
        v2_cpu = anys.unpack(metrics.data, cgroups_v2.Metrics).cpu
        assert v2_cpu is not None
        assert v2_cpu.usage_usec == 9000
    else:
        v1_cpu = anys.unpack(metrics.data, cgroups_v1.Metrics).cpu
        assert v1_cpu is not None
        assert v1_cpu.usage is not None
        assert v1_cpu.usage.total == 9_000_000


async def test_an_update_reaches_the_pod_with_its_limits_and_annotations(world: World) -> None:
    await world.running()
    limits = Any_(type_url=anys.LINUX_RESOURCES_URL, value=b'{"memory":{"limit":1}}')

    await world.client.update_sandbox(v1.UpdateSandboxRequest(sandbox_id=ID, resources=limits, annotations={"a": "b"}))

    assert world.pod.life.resources == b'{"memory":{"limit":1}}'
    assert world.pod.life.annotations == {"a": "b"}
    await world.client.update_sandbox(v1.UpdateSandboxRequest(sandbox_id=ID))
    assert world.pod.life.resources is None


async def test_resources_of_another_type_are_refused(world: World) -> None:
    await world.running()
    request = v1.UpdateSandboxRequest(sandbox_id=ID, resources=Any_(type_url="windows", value=b"{}"))

    assert "windows" in await _fails(Status.INVALID_ARGUMENT, world.client.update_sandbox(request))


async def test_a_sandbox_that_is_never_started_does_not_keep_its_shim(tmp_path: Path) -> None:
    async with _world(tmp_path, 0.5) as world:
        await world.create()
        world.pod.life.fail_next = UnavailableError("no memory")
        await _fails(Status.UNAVAILABLE, world.start())
        since = anyio.current_time()

        assert await world.lifetime.wait() == "no container for 0.5 s"
        assert anyio.current_time() - since >= 0.4


async def test_a_sandbox_that_was_stopped_keeps_its_shim_until_it_is_shut_down(tmp_path: Path) -> None:
    async with _world(tmp_path, 0.05) as world:
        await world.running()
        await world.stop()

        with anyio.move_on_after(0.3) as scope:
            await world.lifetime.wait()

    assert scope.cancelled_caught


async def test_the_request_reaches_the_pod(world: World) -> None:
    config = PodSandboxConfig(
        hostname="web",
        dns_config=DnsConfig(servers=["9.9.9.9"], searches=["a.example", "b.example"], options=["ndots:5"]),
        linux=LinuxPodSandboxConfig(cgroup_parent="/kubepods/pod1", sysctls={"net.core.somaxconn": "99"}),
    )
    await world.create(netns_path="/var/run/netns/n1", annotations={"a": "b"}, options=anys.pack(config))

    request = world.pod.life.request
    assert request is not None
    assert (request.netns_path, request.annotations, request.bundle) == ("/var/run/netns/n1", {"a": "b"}, world.root)
    assert request.settings.hostname == "web"
    assert request.settings.dns == ("search a.example b.example", "nameserver 9.9.9.9", "options ndots:5")
    assert request.settings.cgroup_parent == "/kubepods/pod1"
    assert request.settings.sysctls == {"net.core.somaxconn": "99"}


@pytest.mark.parametrize("bundle", ["", "relative"])
async def test_a_bundle_must_be_a_path(world: World, bundle: str) -> None:
    message = await _fails(Status.INVALID_ARGUMENT, world.create(bundle_path=bundle))

    assert "bundle" in message
    assert not world.pod.life.exists


async def test_a_second_sandbox_is_refused(world: World) -> None:
    await world.running()

    await _fails(Status.ALREADY_EXISTS, world.create())
    await _fails(Status.FAILED_PRECONDITION, world.start())


async def test_nothing_can_be_asked_of_a_sandbox_that_was_not_created(world: World) -> None:
    client = world.client
    for call in (
        world.start(),
        world.status(),
        world.stop(),
        world.wait(),
        client.ping_sandbox(v1.PingRequest(sandbox_id=ID)),
        client.sandbox_metrics(v1.SandboxMetricsRequest(sandbox_id=ID)),
        client.update_sandbox(v1.UpdateSandboxRequest(sandbox_id=ID)),
    ):
        await _fails(Status.NOT_FOUND, call)


async def test_every_method_knows_whose_shim_this_is(world: World) -> None:
    await world.running()
    for route, handler in v1.SandboxBase().__mapping__().items():
        if route.endswith("CreateSandbox"):
            continue
        name = "".join(f"_{char.lower()}" if char.isupper() else char for char in route.rpartition("/")[2])[1:]
        call = getattr(world.client, name)(handler.request_type(sandbox_id="another"))
        assert "another" in await _fails(Status.NOT_FOUND, call)
    assert world.pod.life.exists


async def test_a_failed_start_can_be_tried_again(world: World) -> None:
    await world.create()
    world.pod.life.fail_next = UnavailableError("no VM: QEMU exited")

    assert "QEMU exited" in await _fails(Status.UNAVAILABLE, world.start())
    assert (await world.start()).pid == VM_PID


async def test_shutdown_ends_the_shim_when_all_is_down(world: World) -> None:
    await world.running()
    ended = anyio.Event()

    async def shutdown() -> None:
        await world.client.shutdown_sandbox(v1.ShutdownSandboxRequest(sandbox_id=ID))
        assert world.lifetime.finished.is_set()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(shutdown)
        assert await world.lifetime.wait() == "ShutdownSandbox"
        assert not ended.is_set()
        world.lifetime.finished.set()


async def test_shutdown_also_ends_a_shim_whose_sandbox_could_not_be_created(world: World) -> None:
    world.lifetime.finished.set()
    world.pod.life.fail_next = UnavailableError("no")
    await _fails(Status.UNAVAILABLE, world.create())

    await world.client.shutdown_sandbox(v1.ShutdownSandboxRequest(sandbox_id=ID))
    assert await world.lifetime.wait() == "ShutdownSandbox"


async def test_shutdown_leaves_a_pod_alone_that_containers_made(world: World) -> None:
    (world.root / "config.json").write_text(json.dumps({"process": {"args": ["sleep"]}}))
    await world.task.create(v2.CreateTaskRequest(id="c1", bundle=str(world.root)))

    call = world.client.shutdown_sandbox(v1.ShutdownSandboxRequest(sandbox_id=ID))
    await _fails(Status.FAILED_PRECONDITION, call)


async def test_a_tasks_shutdown_does_not_end_a_sandbox_without_tasks(world: World) -> None:
    await world.running()

    await world.task.shutdown(v2.ShutdownRequest(id="c1"))

    assert (await world.status()).state == "SANDBOX_READY"
    assert not world.lifetime.finished.is_set()


async def test_a_sandbox_has_a_pid_for_a_containerd_that_comes_back(world: World) -> None:
    await world.running()

    answer = await world.task.pids(v2.PidsRequest(id=ID))
    assert [process.pid for process in answer.processes] == [VM_PID]
