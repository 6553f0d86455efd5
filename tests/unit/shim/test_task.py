"""The Task service over real ttrpc, with a fake pod behind it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from protos import anys
from protos.codec import MessageCodec
from protos.gen.containerd.task import v2
from protos.gen.io.containerd.cgroups import v1 as cgroups_v1
from protos.gen.io.containerd.cgroups import v2 as cgroups_v2
from protos.gen.wellknown import Any as AnyMessage
from sandbox.errors import UnavailableError
from sandbox.interface import SandboxIdentity
from shim import task
from shim.lifetime import Lifetime
from shim.stdio.streams import StdioOpener
from shim.task import TaskService
from tests.fakes.pod import VM_PID, FakePod
from ttrpc.client import Channel
from ttrpc.server import Server

pytestmark = pytest.mark.anyio


class World:
    """A served fake pod, and a client."""

    def __init__(self, root: Path, pod: FakePod, lifetime: Lifetime, channel: Any, published: list[Any]) -> None:
        self.root = root
        self.pod = pod
        self.lifetime = lifetime
        self.channel = channel
        self.published = published
        self.client = v2.TaskStub(channel)

    def bundle(self, container_id: str, *args: str) -> str:
        path = self.root / container_id
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"process": {"args": args or ("sleep",)}}))
        return str(path)

    async def create(self, container_id: str = "c1", *args: str, timeout: float | None = None, **fields: Any) -> int:
        message = v2.CreateTaskRequest(id=container_id, bundle=self.bundle(container_id, *args), **fields)
        return (await self.client.create(message, timeout=timeout)).pid

    async def running(self, container_id: str = "c1", *args: str) -> None:
        await self.create(container_id, *args)
        await self.client.start(v2.StartRequest(id=container_id))

    async def exec(self, exec_id: str, *args: str) -> None:
        await self.client.exec(exec_request("c1", exec_id, args))


def exec_request(container_id: str, exec_id: str, args: Sequence[str], **streams: str) -> v2.ExecProcessRequest:
    """The request to register an exec that does `args` in the fake pod."""
    spec = AnyMessage(type_url=anys.PROCESS_URL, value=json.dumps({"args": list(args)}).encode())
    return v2.ExecProcessRequest(id=container_id, exec_id=exec_id, spec=spec, **streams)


@asynccontextmanager
async def _world(root: Path) -> AsyncIterator[World]:
    path = root / "task.sock"
    identity = SandboxIdentity("s1", "ns", "/c.sock", path)
    published: list[Any] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen()
    async with FakePod(identity, open_stdio=StdioOpener("ns"), publish=published.append) as pod:
        lifetime = Lifetime(lambda: pod.is_empty)
        async with Server([TaskService(pod, lifetime)], MessageCodec()) as server:
            await server.listen(listener)
            channel = await Channel.connect_unix(path, MessageCodec(), timeout=5)
            try:
                with anyio.fail_after(20):
                    yield World(root, pod, lifetime, channel, published)
            finally:
                channel.close()
                await server.close(0)


async def _fails(call: Any) -> GRPCError:
    with pytest.raises(GRPCError) as raised:
        await call
    return raised.value


async def test_the_life_of_a_container(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        assert await world.create("c1", "exit", "3") == VM_PID
        state = await world.client.state(v2.StateRequest(id="c1"))
        assert (state.status, state.pid, state.bundle) == (1, VM_PID, str(tmp_path / "c1"))
        assert (await world.client.start(v2.StartRequest(id="c1"))).pid == VM_PID
        waited = await world.client.wait(v2.WaitRequest(id="c1"))
        assert waited.exit_status == 3
        stopped = await world.client.state(v2.StateRequest(id="c1"))
        assert (stopped.status, stopped.exit_status, stopped.exited_at) == (3, 3, waited.exited_at)
        deleted = await world.client.delete(v2.DeleteRequest(id="c1"))
        assert (deleted.pid, deleted.exit_status, deleted.exited_at) == (VM_PID, 3, waited.exited_at)
        assert (await _fails(world.client.state(v2.StateRequest(id="c1")))).status is Status.NOT_FOUND


async def test_the_life_of_an_exec(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.running()
        await world.exec("e1", "exit", "7")
        state = await world.client.state(v2.StateRequest(id="c1", exec_id="e1"))
        assert (state.id, state.exec_id, state.status) == ("e1", "e1", 1)
        await world.client.start(v2.StartRequest(id="c1", exec_id="e1"))
        assert (await world.client.wait(v2.WaitRequest(id="c1", exec_id="e1"))).exit_status == 7
        assert (await world.client.delete(v2.DeleteRequest(id="c1", exec_id="e1"))).exit_status == 7
        assert (await world.client.state(v2.StateRequest(id="c1"))).status == 2


@pytest.mark.parametrize("version", ["v2", "v3"])
async def test_every_method_is_served_in_both_versions(tmp_path: Path, version: str) -> None:
    async with _world(tmp_path) as world:
        for route, handler in v2.TaskBase().__mapping__().items():
            name = route.replace("task.v2", f"task.{version}")
            request = handler.request_type(**({} if route.endswith("Shutdown") else {"id": "missing"}))
            if route.endswith("Shutdown"):
                world.lifetime.finished.set()
            status = Status.OK
            try:
                async with world.channel.request(
                    name, Cardinality.UNARY_UNARY, handler.request_type, handler.reply_type, timeout=5
                ) as stream:
                    await stream.send_message(request, end=True)
                    await stream.recv_message()
            except GRPCError as error:
                status = error.status
            expected = {"Checkpoint": Status.UNIMPLEMENTED, "Connect": Status.OK, "Shutdown": Status.OK}
            fallback = (Status.NOT_FOUND, Status.INVALID_ARGUMENT)
            method = route.rpartition("/")[2]
            assert status in (expected.get(method), *(() if method in expected else fallback)), method
        assert len(v2.TaskBase().__mapping__()) == 17


async def test_connect_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _world(tmp_path) as world:
        for container_id in ("", "unknown", "../.."):
            answer = await world.client.connect(v2.ConnectRequest(id=container_id))
            assert (answer.shim_pid, answer.task_pid, answer.version) == (os.getpid(), 0, "2")
        await world.create()
        assert (await world.client.connect(v2.ConnectRequest(id="c1"))).task_pid == VM_PID

        def gone(_: str) -> int:
            raise UnavailableError("no VM")

        monkeypatch.setattr(world.pod, "task_pid", gone)
        assert (await world.client.connect(v2.ConnectRequest(id="c1"))).task_pid == 0


async def test_pids_are_never_empty(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.create()
        assert [p.pid for p in (await world.client.pids(v2.PidsRequest(id="c1"))).processes] == [VM_PID]


async def test_kill_carries_signal_and_all(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.running()
        await world.client.kill(v2.KillRequest(id="c1", signal=15, all=True))
        assert world.pod.last_kill == (15, True)
        assert (await world.client.wait(v2.WaitRequest(id="c1"))).exit_status == 143
        error = await _fails(world.client.kill(v2.KillRequest(id="c1", signal=9)))
        assert (error.status, error.message) == (Status.NOT_FOUND, "process already finished: not found")


async def test_a_hundred_waiters_all_learn_the_exit_and_state_answers_meanwhile(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.running()
        statuses: list[int] = []

        async def wait() -> None:
            statuses.append((await world.client.wait(v2.WaitRequest(id="c1"))).exit_status)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(wait)
            assert (await world.client.state(v2.StateRequest(id="c1"), timeout=2)).status == 2
            await world.client.kill(v2.KillRequest(id="c1", signal=9))

        assert statuses == [137] * 100


async def test_io_terminal_pause_and_update_reach_the_pod(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.running()
        await world.client.resize_pty(v2.ResizePtyRequest(id="c1", width=80, height=24))
        assert world.pod.size == (80, 24)
        await world.client.pause(v2.PauseRequest(id="c1"))
        assert (await world.client.state(v2.StateRequest(id="c1"))).status == 4
        await world.client.resume(v2.ResumeRequest(id="c1"))
        packed = AnyMessage(type_url=anys.LINUX_RESOURCES_URL, value=b"{}")
        await world.client.update(v2.UpdateTaskRequest(id="c1", resources=packed))
        assert world.pod.last_resources == b"{}"


async def test_close_io_ends_the_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in")
    os.mkfifo(tmp_path / "out")
    reader = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
    async with _world(tmp_path) as world:
        await world.create("c1", "cat", stdin=str(tmp_path / "in"), stdout=str(tmp_path / "out"))
        writer = os.open(tmp_path / "in", os.O_WRONLY)
        await world.client.start(v2.StartRequest(id="c1"))
        os.write(writer, b"hello")
        await world.client.close_io(v2.CloseIoRequest(id="c1", stdin=False))
        await world.client.close_io(v2.CloseIoRequest(id="c1", stdin=True))
        assert (await world.client.wait(v2.WaitRequest(id="c1"))).exit_status == 0
        assert os.read(reader, 100) == b"hello"
        assert (await _fails(world.client.close_io(v2.CloseIoRequest(id="none")))).status is Status.NOT_FOUND
    os.close(writer)
    os.close(reader)


async def test_stats_come_in_the_hosts_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _world(tmp_path) as world:
        await world.create()
        for unified, kind in ((True, cgroups_v2.Metrics), (False, cgroups_v1.Metrics)):
            monkeypatch.setattr(task.host, "host_is_unified", lambda unified=unified: unified)
            answer = await world.client.stats(v2.StatsRequest(id="c1"))
            assert answer.stats is not None
            assert anys.unpack(answer.stats, kind).cpu is not None


async def test_checkpoint_is_unimplemented(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.create()
        error = await _fails(world.client.checkpoint(v2.CheckpointTaskRequest(id="c1")))
        assert error.status is Status.UNIMPLEMENTED


async def test_a_second_create_is_already_exists(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.create()
        message = v2.CreateTaskRequest(id="c1", bundle=str(tmp_path / "c1"))
        assert (await _fails(world.client.create(message))).status is Status.ALREADY_EXISTS


@pytest.mark.parametrize("container_id", ["", "a/b", "..", "x" * 77])
async def test_an_id_that_is_none_never_reaches_the_pod(tmp_path: Path, container_id: str) -> None:
    async with _world(tmp_path) as world:
        error = await _fails(world.client.create(v2.CreateTaskRequest(id=container_id, bundle="/b")))
        assert error.status is Status.INVALID_ARGUMENT
        assert world.pod.last_request is None


async def test_a_fault_of_ours_is_one_line_for_the_caller_and_a_traceback_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _world(tmp_path) as world:
        world.pod.fail_next_create = ZeroDivisionError("first\nsecond")
        error = await _fails(world.create())

    assert error.status is Status.UNKNOWN
    assert error.message == "Create: ZeroDivisionError: first second"
    assert any(record.exc_info for record in caplog.records)


async def test_create_is_told_less_than_its_callers_patience(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.create("c1", timeout=10)
        assert world.pod.create_timeout is not None
        assert 8 < world.pod.create_timeout <= 9
        await world.create("c3", timeout=0.8)
        assert world.pod.create_timeout <= 0.4
        await world.create("c2")
        assert world.pod.create_timeout is None


async def test_create_outlives_the_connection_that_asked(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        world.pod.create_gate = anyio.Event()
        message = v2.CreateTaskRequest(id="c1", bundle=world.bundle("c1"))
        other: Any = await Channel.connect_unix(tmp_path / "task.sock", MessageCodec(), timeout=5)
        async with anyio.create_task_group() as group:
            group.start_soon(_fails, v2.TaskStub(other).create(message))
            while world.pod.last_request is None:
                await anyio.sleep(0.001)
            other.close()
        world.pod.create_gate.set()

        with anyio.fail_after(5):
            while not world.pod.processes:
                await anyio.sleep(0.001)
        assert (await world.client.state(v2.StateRequest(id="c1"))).status == 1


async def test_shutdown_is_ignored_while_there_is_a_container(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.create()
        await world.client.shutdown(v2.ShutdownRequest(id="c1"))
        with anyio.move_on_after(0.05) as scope:
            await world.lifetime.wait()
        assert scope.cancelled_caught


async def test_shutdown_of_an_empty_pod_ends_the_daemon_and_answers_when_all_is_down(tmp_path: Path) -> None:
    async with _world(tmp_path) as world, anyio.create_task_group() as group:
        answered = anyio.Event()

        async def shutdown() -> None:
            await world.client.shutdown(v2.ShutdownRequest(id="c1"))
            answered.set()

        group.start_soon(shutdown)
        assert await world.lifetime.wait() == "Shutdown"
        assert not answered.is_set()
        world.lifetime.finished.set()
        await answered.wait()


async def test_shutdown_answers_in_time_even_if_the_pod_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "SHUTDOWN_TIMEOUT", 0.05)
    async with _world(tmp_path) as world:
        await world.client.shutdown(v2.ShutdownRequest(id="c1"), timeout=3)


async def test_the_events_of_a_life_are_in_order(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.running("c1", "exit", "0")
        await world.client.wait(v2.WaitRequest(id="c1"))
        await world.client.delete(v2.DeleteRequest(id="c1"))

        assert [type(event).__name__ for event in world.published] == [
            "TaskCreate",
            "TaskStart",
            "TaskExit",
            "TaskDelete",
        ]
