"""The daemon as a process, from `start` to its end, with a fake pod and a fake event service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.containerd import events
from protos.gen.containerd.task.v2 import (
    ConnectRequest,
    CreateTaskRequest,
    DeleteRequest,
    KillRequest,
    ShutdownRequest,
    StartRequest,
    StateRequest,
    WaitRequest,
)
from tests.fakes.containerd_events import FakeEvents
from tests.harness.waiting import eventually, eventually_async
from tests.unit.shim.place import PROJECT, ShimPlace, task_client

pytestmark = pytest.mark.anyio


class LogReader:
    """containerd's end of a bundle's log FIFO."""

    def __init__(self, bundle: Path) -> None:
        self._fd = os.open(bundle / "log", os.O_RDONLY | os.O_NONBLOCK)
        self.text = ""

    def has(self, text: str) -> bool:
        """Whether `text` has been logged."""
        try:
            while chunk := os.read(self._fd, 65536):
                self.text += chunk.decode()
        except BlockingIOError:
            pass
        return text in self.text

    def wait_for(self, text: str) -> None:
        """Return when `text` is logged."""
        eventually(lambda: self.has(text), f"the log says {text!r}")

    def close(self) -> None:
        """Go away, as containerd does."""
        os.close(self._fd)


async def test_a_container_from_create_to_shutdown(place: ShimPlace) -> None:
    bundle = place.bundle("c1", ["echo", "hello"])
    for name in ("out", "err"):
        os.mkfifo(bundle / name)
    reader = os.open(bundle / "out", os.O_RDONLY | os.O_NONBLOCK)
    service = FakeEvents(place.root / "events.sock")
    async with service.serve():
        address = place.start("c1", bundle, TTRPC_ADDRESS=str(service.path))
        async with task_client(address) as client:
            create = CreateTaskRequest(
                id="c1", bundle=str(bundle), stdout=str(bundle / "out"), stderr=str(bundle / "err")
            )
            await client.create(create)
            connected = await client.connect(ConnectRequest(id="c1"))
            assert connected.shim_pid == place.daemon()
            await client.start(StartRequest(id="c1"))
            assert (await client.wait(WaitRequest(id="c1"))).exit_status == 0
            assert os.read(reader, 100) == b"hello\n"
            await client.delete(DeleteRequest(id="c1"))
            await client.shutdown(ShutdownRequest(id="c1"), timeout=3)
            assert service.topics == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
        place.wait_until_gone(2)

    assert list(place.sockets.iterdir()) == []
    os.close(reader)


async def test_the_daemon_is_there_for_a_client_that_comes_at_once(place: ShimPlace) -> None:
    started = time.monotonic()
    address = place.start("c1", place.bundle("c1"))

    async with task_client(address) as client:
        await client.connect(ConnectRequest(id="c1"), timeout=5)

    assert time.monotonic() - started < 5


async def test_a_failed_create_and_then_shutdown_end_the_daemon(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    (bundle / "config.json").write_text('{"annotations": {}}')
    address = place.start("c1", bundle)

    async with task_client(address) as client:
        with pytest.raises(GRPCError) as raised:
            await client.create(CreateTaskRequest(id="c1", bundle=str(bundle)))
        assert raised.value.status is Status.INVALID_ARGUMENT
        with pytest.raises(GRPCError) as raised:
            await client.delete(DeleteRequest(id="c1"))
        assert raised.value.status is Status.NOT_FOUND
        await client.shutdown(ShutdownRequest(id="c1"), timeout=3)

    place.wait_until_gone(2)


async def test_a_failed_create_without_a_shutdown_ends_the_daemon_too(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    (bundle / "config.json").write_text("{}")
    address = place.start("c1", bundle, KATA_SHIM_IDLE_TIMEOUT="0.3")

    async with task_client(address) as client:
        with pytest.raises(GRPCError):
            await client.create(CreateTaskRequest(id="c1", bundle=str(bundle)))

        place.wait_until_gone()


async def test_a_daemon_with_a_container_outlives_its_connections(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    address = place.start("c1", bundle, KATA_SHIM_IDLE_TIMEOUT="0.1")
    async with task_client(address) as client:
        await client.create(CreateTaskRequest(id="c1", bundle=str(bundle)))
        await client.start(StartRequest(id="c1"))

    await anyio.sleep(0.3)

    async with task_client(address) as client:
        assert (await client.state(StateRequest(id="c1"))).status == 2


async def test_events_of_containerds_absence_arrive_when_it_is_back(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    service = FakeEvents(place.root / "events.sock")
    address = place.start("c1", bundle, TTRPC_ADDRESS=str(service.path))
    async with task_client(address) as client:
        await client.create(CreateTaskRequest(id="c1", bundle=str(bundle)))
        await client.start(StartRequest(id="c1"))
        await client.kill(KillRequest(id="c1", signal=9))
        await client.wait(WaitRequest(id="c1"))

        async with service.serve():
            await service.wait_for(3)

        assert service.topics == ["/tasks/create", "/tasks/start", "/tasks/exit"]
        exit_event = service.messages[2]
        assert isinstance(exit_event, events.TaskExit)
        assert (exit_event.container_id, exit_event.id, exit_event.exit_status) == ("c1", "c1", 137)


async def test_a_signal_ends_running_containers_and_tells_so(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    service = FakeEvents(place.root / "events.sock")
    async with service.serve():
        address = place.start("c1", bundle, TTRPC_ADDRESS=str(service.path))
        async with task_client(address) as client:
            await client.create(CreateTaskRequest(id="c1", bundle=str(bundle)))
            await client.start(StartRequest(id="c1"))
            async with anyio.create_task_group() as group:
                exits: list[int] = []

                async def wait() -> None:
                    exits.append((await client.wait(WaitRequest(id="c1"))).exit_status)

                group.start_soon(wait)
                await client.state(StateRequest(id="c1"))
                os.kill(place.daemon(), signal.SIGTERM)
            assert exits == [137]
            await service.wait_for(3)
        assert service.topics[-1] == "/tasks/exit"
        place.wait_until_gone()


async def test_sigusr1_logs_where_everything_stands(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    log = LogReader(bundle)
    place.start("c1", bundle)
    log.wait_for("serving sandbox c1")

    os.kill(place.daemon(), signal.SIGUSR1)

    log.wait_for("thread MainThread")
    assert "task shim.events.Publisher.run" in log.text
    log.close()


async def test_a_log_nobody_reads_never_stops_the_daemon(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    address = place.start("c1", bundle)

    async with task_client(address) as client:
        pid = (await client.connect(ConnectRequest(id="c1"))).shim_pid
        for _ in range(100):
            os.kill(pid, signal.SIGUSR1)
            await client.connect(ConnectRequest(id="c1"), timeout=5)

    log = LogReader(bundle)
    eventually(lambda: log.has("serving sandbox c1") and len(log.text) > 100_000, "what was kept back arrives")
    log.close()


async def test_a_pod_that_cannot_be_made_ends_the_daemon_with_its_cause_in_the_log(place: ShimPlace) -> None:
    bundle = place.bundle("c1")
    entry = place.root / "entry.py"
    entry.write_text(entry.read_text().replace("serve(told, listener, FakePod)", "serve(told, listener, None)"))
    log = LogReader(bundle)
    place.start("c1", bundle)

    place.wait_until_gone()

    log.wait_for("TypeError")
    assert "containerd-shim-kata-v2 0.1.0 failed" in log.text
    log.close()


def test_a_daemon_that_was_not_started_by_start_says_so() -> None:
    entry = str(PROJECT / "shim" / "entry.py")
    done = subprocess.run([sys.executable, "-I", "-S", entry, "-id", "x"], capture_output=True, timeout=30)

    assert done.returncode == 1
    assert b"started by the action start" in done.stderr


async def test_exec_cycles_leave_no_descriptor_behind(place: ShimPlace) -> None:
    from tests.unit.shim.test_task import exec_request

    bundle = place.bundle("c1")
    os.mkfifo(bundle / "out")
    address = place.start("c1", bundle)
    async with task_client(address) as client:
        await client.create(CreateTaskRequest(id="c1", bundle=str(bundle)))
        await client.start(StartRequest(id="c1"))
        fds = Path(f"/proc/{place.daemon()}/fd")

        async def cycle(number: int) -> None:
            exec_id = f"e{number}"
            await client.exec(exec_request("c1", exec_id, ["echo", "x"], stdout=str(bundle / "out")))
            await client.start(StartRequest(id="c1", exec_id=exec_id))
            await client.wait(WaitRequest(id="c1", exec_id=exec_id))
            await client.delete(DeleteRequest(id="c1", exec_id=exec_id))

        await cycle(0)
        before = len(list(fds.iterdir()))
        for number in range(1, 101):
            await cycle(number)

        async def same() -> bool:
            return len(list(fds.iterdir())) == before

        await eventually_async(same, "no descriptor is left")
