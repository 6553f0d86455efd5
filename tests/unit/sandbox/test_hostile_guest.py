"""A guest that attacks its host, against the real `Sandbox` and agent client: the daemon stays whole and small."""

from __future__ import annotations

import signal
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import config
from agent_client import keeper
from protos.gen import grpc as pb
from sandbox import exits, rundir
from sandbox.errors import SandboxError
from sandbox.interface import ExecRequest, ProcessStatus, SandboxIdentity, StdioUris
from sandbox.machine import Machine
from sandbox.sandbox import Sandbox
from tests.fakes import malicious_agent as evil
from tests.fakes.malicious_agent import MaliciousAgent, answer
from tests.fakes.vm import FakeVm
from tests.fakes.world import PATIENCE, World

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[MaliciousAgent]:
    async with MaliciousAgent(tmp_path / "agent") as agent:
        yield agent


@pytest.fixture
async def world(
    guest: MaliciousAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_mounts: list[tuple[str, str]]
) -> AsyncIterator[World]:
    """A pod that has not been started, whose guest is `guest`; every deadline of the pod is short."""
    monkeypatch.setattr(rundir, "ROOT", tmp_path / "run")
    monkeypatch.setattr(keeper, "RECONNECT_TIMEOUT", 1.0)
    for name in ("signals.KILL_TIMEOUT", "sandbox.STATS_TIMEOUT", "exits.LAST_STATS_TIMEOUT", "streams.QUIET"):
        monkeypatch.setattr(f"sandbox.{name}", 0.3)
    settings_file = tmp_path / "configuration.toml"
    settings_file.write_text(
        "[hypervisor.qemu]\naccelerator = 'tcg'\n[agent.kata]\ndial_timeout = 1\n"
        "[runtime]\ncreate_container_timeout = 1\n"
    )
    settings = config.load(settings_file)
    vm = FakeVm(guest.url)
    made = World(tmp_path, None, vm)  # type: ignore[arg-type]
    made.sandbox = Sandbox(
        SandboxIdentity("s1", "default", "/run/containerd.sock", tmp_path / "s.sock"),
        open_stdio=made.open_stdio,
        publish=made.events.append,
        load_config=lambda _: settings,
        make_machine=lambda plan, directory: Machine(plan, vm, made.share(plan)),
        find_cgroups=made.cgroups,
    )
    async with made.sandbox:
        yield made


@pytest.fixture
async def pod(world: World) -> World:
    """The pod, started, with a container `c1` that runs."""
    await world.sandbox.create(world.bundle("s1", "sandbox"), PATIENCE)
    await world.sandbox.start("s1", "")
    await world.sandbox.create(world.bundle("c1", "container"), PATIENCE)
    await world.sandbox.start("c1", "")
    return world


async def refused(call) -> str:
    """The text of the error that `call` raises, which is one printable line."""
    with anyio.fail_after(PATIENCE), pytest.raises(SandboxError) as caught:
        await call
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) <= 4000
    return text


async def reply(session: evil.Session, stream_id: int, message: object) -> None:
    await session.send(answer(stream_id, message))


@pytest.mark.parametrize("attack", evil.ON_ANY_CALL, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("rpc", ["Check", "CreateSandbox", "CreateContainer"])
async def test_an_attack_on_the_start_fails_it_with_one_line_and_leaves_nothing(world, guest, rpc, attack):
    guest.on(rpc, attack)

    text = await refused(world.sandbox.create(world.bundle("s1", "sandbox"), 2))

    assert "s1" in text or "phase" in text
    assert world.sandbox.is_empty
    with anyio.fail_after(PATIENCE):
        await world.vm.wait()
    assert world.events == []


@pytest.mark.parametrize("attack", evil.ON_ANY_CALL, ids=lambda attack: attack.__name__)
async def test_an_attack_on_statistics_is_told_in_time_and_the_pod_goes_on(pod, guest, attack):
    guest.on("StatsContainer", attack)
    began = time.monotonic()

    await refused(pod.sandbox.stats("c1"))

    assert time.monotonic() - began < 1.8
    if attack is not evil.four_gigabytes:
        await pod.sandbox.pause("c1")
    assert pod.sandbox.state("s1", "").status is ProcessStatus.RUNNING


@pytest.mark.parametrize(
    "attack",
    [evil.junk_response, evil.junk_message, evil.data_frames, evil.long_text, evil.unknown_code, evil.oversized],
    ids=lambda attack: attack.__name__,
)
async def test_an_attack_on_the_wait_is_an_exit_of_which_nothing_is_known(pod, guest, attack):
    guest.on("WaitProcess", attack)
    await pod.sandbox.exec(ExecRequest("c1", "e1", b'{"args": ["x"], "cwd": "/"}', StdioUris(stdout="e1")))

    await pod.sandbox.start("c1", "e1")

    with anyio.fail_after(PATIENCE):
        assert (await pod.sandbox.wait("c1", "e1")).exit_status == 255
    assert (await pod.sandbox.delete("c1", "e1")).exit_status == 255


@pytest.mark.parametrize("status", [-1, 256, 1 << 30, -(1 << 31)])
async def test_an_absurd_exit_status_is_255(pod, guest, status):
    guest.on("WaitProcess", lambda session, stream, _: reply(session, stream, pb.WaitProcessResponse(status=status)))
    await pod.sandbox.exec(ExecRequest("c1", "e1", b'{"args": ["x"], "cwd": "/"}', StdioUris(stdout="e1")))
    await pod.sandbox.start("c1", "e1")

    with anyio.fail_after(PATIENCE):
        assert (await pod.sandbox.wait("c1", "e1")).exit_status == 255


class SlowReader:
    """A host's end that takes nothing until it is told to."""

    has_stdin = False

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.got = 0

    async def read_stdin(self, size: int) -> bytes:
        return b""

    async def write_stdout(self, data: bytes) -> None:
        await self.open.wait()
        self.got += len(data)

    write_stderr = write_stdout

    def close_stdin(self) -> None:
        return

    async def aclose(self) -> None:
        return


def endless(session: evil.Session, stream_id: int, payload: bytes) -> object:
    """As much output as is asked for, at once."""
    request = pb.ReadStreamRequest.parse(payload)
    return reply(session, stream_id, pb.ReadStreamResponse(data=bytes(request.len)))


async def start_with(pod: World, reader: SlowReader, monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_stdio(container_id: str, uris: StdioUris) -> SlowReader:
        return reader

    monkeypatch.setattr(pod.sandbox.pod, "open_stdio", open_stdio)
    await pod.sandbox.exec(ExecRequest("c1", "e1", b'{"args": ["x"], "cwd": "/"}', StdioUris(stdout="e1")))
    await pod.sandbox.start("c1", "e1")


async def test_output_is_asked_for_no_faster_than_it_is_read(pod, guest, monkeypatch):
    guest.on("ReadStdout", endless)
    reader, before = SlowReader(), guest.calls["ReadStdout"]
    await start_with(pod, reader, monkeypatch)
    await guest.called("ReadStdout", before + 1)
    for _ in range(20):
        await pod.sandbox.pause("c1")
        await pod.sandbox.resume("c1")

    assert guest.calls["ReadStdout"] == before + 1
    assert reader.got == 0


async def test_endless_output_is_passed_on_and_not_kept_and_others_are_served(pod, guest, monkeypatch):
    guest.on("ReadStdout", endless)
    guest.on("ReadStderr", endless)
    reader = SlowReader()
    reader.open.set()
    tracemalloc.start()
    try:
        await start_with(pod, reader, monkeypatch)
        slowest = 0.0
        with anyio.fail_after(60):
            while reader.got < 100 * MIB:
                began = time.monotonic()
                await pod.sandbox.pause("c1")
                await pod.sandbox.resume("c1")
                slowest = max(slowest, time.monotonic() - began)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 16 * MIB
    assert slowest < 1


async def test_endless_output_does_not_hold_back_the_exit(pod, guest, monkeypatch):
    guest.on("ReadStdout", endless)
    guest.on("WaitProcess", lambda session, stream, _: reply(session, stream, pb.WaitProcessResponse(status=7)))
    reader = SlowReader()
    reader.open.set()

    await start_with(pod, reader, monkeypatch)

    with anyio.fail_after(PATIENCE):
        assert (await pod.sandbox.wait("c1", "e1")).exit_status == 7
        await pod.sandbox.delete("c1", "e1")


async def test_a_guest_that_never_answers_a_kill_loses_its_vm(pod, guest):
    guest.on("SignalProcess", evil.silence)

    with anyio.fail_after(PATIENCE):
        await pod.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)
        assert (await pod.sandbox.wait("c1", "")).exit_status == 137
        assert (await pod.sandbox.wait("s1", "")).exit_status == 137


async def test_a_guest_that_promises_four_gigabytes_loses_its_vm_at_the_next_kill(pod, guest):
    guest.on("StatsContainer", evil.four_gigabytes)
    await refused(pod.sandbox.stats("c1"))

    with anyio.fail_after(PATIENCE):
        await pod.sandbox.kill("c1", "", signal.SIGKILL, everyone=True)
        assert (await pod.sandbox.wait("c1", "")).exit_status == 137


async def test_a_guest_that_never_answers_a_removal_holds_up_the_delete_for_its_deadline_only(pod, guest, monkeypatch):
    monkeypatch.setattr("sandbox.starts.REMOVE_TIMEOUT", 1)
    guest.on("RemoveContainer", evil.silence)
    guest.on("SignalProcess", lambda session, stream, _: reply(session, stream, b""))
    pod.sandbox.pod.containers["c1"].init.exited(1, 0, pod.sandbox.pod.publish)

    with anyio.fail_after(PATIENCE):
        await pod.sandbox.delete("c1", "")

    assert "c1" not in pod.sandbox.pod.containers


@pytest.mark.parametrize("name", ["nobody", "../../../../etc/passwd", "\x1b[2J\n", "x" * 250, ""])
async def test_a_flood_of_oom_events_for_nobody_is_taken_slowly_and_tells_nothing(world, guest, name, caplog):
    guest.on("GetOOMEvent", lambda session, stream, _: reply(session, stream, pb.OomEvent(container_id=name)))
    await world.sandbox.create(world.bundle("s1", "sandbox"), PATIENCE)
    await guest.called("GetOOMEvent", 3)
    before, began = guest.calls["GetOOMEvent"], time.monotonic()

    await guest.called("GetOOMEvent", before + 3)

    assert time.monotonic() - began >= 2 * exits.OOM_PAUSE
    assert "TaskOom" not in world.names()
    assert len(caplog.records) < 10


async def test_a_flood_of_oom_events_for_one_container_tells_one(world, guest):
    guest.on("GetOOMEvent", lambda session, stream, _: reply(session, stream, pb.OomEvent(container_id="s1")))
    await world.sandbox.create(world.bundle("s1", "sandbox"), PATIENCE)

    await guest.called("GetOOMEvent", 5)

    assert world.names().count("TaskOom") == 1


async def test_a_guest_that_hangs_up_again_and_again_loses_its_vm(world, guest, caplog):
    guest.on("WaitProcess", evil.hang_up)

    await world.sandbox.create(world.bundle("s1", "sandbox"), PATIENCE)

    with anyio.fail_after(PATIENCE):
        assert (await world.sandbox.wait("s1", "")).exit_status == 137
        await world.vm.wait()
    assert world.sandbox.pod.machine
    assert f"lost {keeper.LOSSES_MAX} times" in world.sandbox.pod.machine.cause
    assert len(caplog.records) < 40


async def test_what_a_guest_says_is_one_printable_line_of_the_log_each_time(pod, guest, caplog):
    caplog.set_level("DEBUG")
    for rpc in (
        "WaitProcess",
        "ReadStdout",
        "ReadStderr",
        "CloseStdin",
        "WriteStdin",
        "ExecProcess",
        "RemoveContainer",
    ):
        guest.on(rpc, evil.short_ugly_text)
    await pod.sandbox.exec(ExecRequest("c1", "e1", b'{"args": ["x"], "cwd": "/"}', StdioUris(stdout="e1")))

    await refused(pod.sandbox.start("c1", "e1"))
    del guest.attacks["ExecProcess"]
    await pod.sandbox.exec(ExecRequest("c1", "e2", b'{"args": ["x"], "cwd": "/"}', StdioUris(stdout="e2")))
    await pod.sandbox.start("c1", "e2")
    with anyio.fail_after(PATIENCE):
        await pod.sandbox.wait("c1", "e2")

    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("sandbox", "agent_client"))]
    assert any("owned" in line for line in ours)
    assert all(line.isprintable() and len(line) < 4100 for line in ours)


async def test_nothing_is_written_outside_of_the_pod_s_place(pod, guest, tmp_path):
    def files() -> set[str]:
        return {str(path) for path in tmp_path.rglob("*")}

    before = files()
    for rpc in ("StatsContainer", "PauseContainer", "ExecProcess"):
        guest.on(rpc, evil.long_text)
    await refused(pod.sandbox.stats("c1"))
    await refused(pod.sandbox.pause("c1"))
    await pod.sandbox.exec(ExecRequest("c1", "e1", b'{"args": ["x"], "cwd": "/"}', StdioUris(stdout="e1")))
    await refused(pod.sandbox.start("c1", "e1"))

    assert files() == before
