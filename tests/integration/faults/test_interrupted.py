"""A `Create` that may not finish: because of its caller's deadline or end, or the death of what it works with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.containerd.task.v2 import ConnectRequest, DeleteRequest, PidsRequest, StateRequest, TaskStub
from protos.gen.containerd.v1.types import Status as TaskStatus
from protos.gen.wellknown import Any as Packed
from sandbox.rundir import read_journal
from tests.harness import processes
from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.harness.waiting import eventually, eventually_async
from tests.integration.faults import guests
from tests.integration.faults.conftest import PidOf, address_of, write_settings
from tests.integration.faults.direct import BOOT_TIMEOUT, CALL_TIMEOUT, Direct, connect, packed_options, shut_down
from tests.integration.faults.measured import Measured
from tests.integration.hypervisor.toy_kernel import write_kernel

pytestmark = pytest.mark.integration

#: Seconds that a caller gives a start which takes longer.
DEADLINE = 2.0


@pytest.fixture
def endless(tmp_path: Path) -> Packed:
    """Options under which a guest boots until somebody gives it up."""
    (tmp_path / "settings").mkdir()
    return packed_options(write_settings(tmp_path / "settings", {}, {"kernel": write_kernel(tmp_path / "kernel")}))


async def _failure(task: TaskStub, direct: Direct, options: Packed) -> GRPCError:
    """Create c1 with too little time, and return the error."""
    with pytest.raises(GRPCError) as caught:
        await task.create(direct.request("c1", options=options), timeout=DEADLINE)
    return caught.value


async def test_a_deadline_before_the_guest_is_up_undoes_everything(
    direct: Direct, endless: Packed, measured: Measured
) -> None:
    async with connect(direct.start("c1")) as task:
        began = time.monotonic()

        error = await _failure(task, direct, endless)

        measured.note(f"Create with {DEADLINE} s to live: error", time.monotonic() - began)
        assert error.status is Status.DEADLINE_EXCEEDED
        assert "phase agent" in str(error.message)
        journal = read_journal(direct.run_dir("c1"))["processes"]
        assert not processes.is_alive(journal["qemu"]["pid"])
        assert not processes.is_alive(journal["virtiofsd"]["pid"])
        with pytest.raises(GRPCError, match="not found"):
            await task.delete(DeleteRequest(id="c1"), timeout=5)
        await shut_down(task)


async def test_a_qemu_that_hangs_is_given_up_in_time(direct: Direct, tmp_path: Path) -> None:
    silent = guests.script(tmp_path, "qemu", "exec sleep 1000")
    (tmp_path / "settings").mkdir()
    settings = write_settings(tmp_path / "settings", {}, {"path": silent})
    async with connect(direct.start("c1")) as task:
        error = await _failure(task, direct, packed_options(settings))

        assert error.status is Status.DEADLINE_EXCEEDED
        assert "phase vm" in str(error.message)
        await shut_down(task)


@asynccontextmanager
async def _creating(direct: Direct, address: str, **fields: Any) -> AsyncIterator[None]:
    """A `Create` of c1 that is under way; its connection goes with the body."""

    async def create(task: TaskStub) -> None:
        with pytest.raises(GRPCError):
            await task.create(direct.request("c1", **fields), timeout=BOOT_TIMEOUT)

    async def has_qemu() -> bool:
        return "qemu" in read_journal(direct.run_dir("c1")).get("processes", {})

    async with connect(address) as task, anyio.create_task_group() as group:
        group.start_soon(create, task)
        await eventually_async(has_qemu, "QEMU runs")
        yield
        group.cancel_scope.cancel()


async def test_a_create_under_way_holds_up_no_question(direct: Direct, endless: Packed) -> None:
    address = direct.start("c1")
    async with connect(address) as task, _creating(direct, address, options=endless):
        began = time.monotonic()

        assert (await task.connect(ConnectRequest(id="c1"), timeout=1)).shim_pid > 0
        for call in (task.state(StateRequest(id="c1")), task.pids(PidsRequest(id="c1"))):
            with pytest.raises(GRPCError, match="not found"):
                await call
        with pytest.raises(GRPCError, match="already exists"):
            await task.create(direct.request("c1"), timeout=1)

        assert time.monotonic() - began < 1
        with pytest.raises(GRPCError, match="not found"):
            await task.delete(DeleteRequest(id="c1"), timeout=5)
        await shut_down(task)


async def test_a_create_whose_caller_hangs_up_is_finished_and_can_be_deleted(direct: Direct) -> None:
    address = direct.start("c1")
    async with _creating(direct, address):
        pass
    async with connect(address) as task:
        await _wait_created(task)
        assert (await task.delete(DeleteRequest(id="c1"), timeout=CALL_TIMEOUT)).exit_status == 137
        await shut_down(task)


async def _wait_created(task: TaskStub) -> None:
    async def created() -> bool:
        try:
            return (await task.state(StateRequest(id="c1"))).status == TaskStatus.CREATED
        except GRPCError:
            return False

    await eventually_async(created, "the container is created", BOOT_TIMEOUT)


def _wait_for_boot(pid_of: PidOf, container: str) -> None:
    def has_qemu() -> bool:
        try:
            return pid_of("qemu", container) > 0
        except KeyError:
            return False

    eventually(has_qemu, f"QEMU of {container} runs")


@pytest.mark.parametrize(
    ("victim", "words"),
    [
        ("qemu", ("cannot start the sandbox: phase ", "QEMU was killed by SIGKILL")),
        ("virtiofsd", ("cannot start the sandbox: phase ", "virtiofsd was killed by SIGKILL")),
        ("daemon", ("ttrpc: closed",)),
    ],
)
def test_a_death_during_a_create_is_its_error(ctr: Ctr, pid_of: PidOf, victim: str, words: tuple[str, ...]) -> None:
    with ctr.background(*ctr.run_arguments("c1", "true", options=("--rm",))) as client:
        _wait_for_boot(pid_of, "c1")

        os.kill(pid_of(victim, "c1"), signal.SIGKILL)

        _, errors = client.communicate(timeout=10)
    assert client.returncode != 0
    (line,) = errors.decode().splitlines()
    for word in words:
        assert word in line, line


def test_a_client_that_dies_during_a_create_leaves_nothing(ctr: Ctr, pid_of: PidOf, tmp_path: Path) -> None:
    run = ctr.run_arguments("c1", "true", options=("--fifo-dir", str(tmp_path)))
    with ctr.background(*run) as client:
        _wait_for_boot(pid_of, "c1")
        client.kill()
        client.wait(5)

    eventually(lambda: "c1" not in ctr.tasks(), "containerd has given up the task", 20)
    ctr.remove("c1")


async def test_a_containerd_that_dies_during_a_create_finds_the_container(bed: Bed, ctr: Ctr, pid_of: PidOf) -> None:
    # Without streams: ctr takes its FIFOs away when its call fails, and then the Create fails too.
    run = ctr.run_arguments("c1", "true", options=("--null-io",))
    with ctr.background(*run) as client:
        _wait_for_boot(pid_of, "c1")
        bed.containerd.kill()
        client.wait(10)
    async with connect(address_of(bed, "default", "c1")) as task:
        await _wait_created(task)

    bed.containerd.start()

    assert ctr.tasks() == {"c1": "CREATED"}
    ctr.remove("c1")


def test_a_containerd_that_dies_during_a_create_may_delete_the_container_meanwhile(
    bed: Bed, ctr: Ctr, pid_of: PidOf, tmp_path: Path, measured: Measured
) -> None:
    run = ctr.run_arguments("c1", "true", options=("--fifo-dir", str(tmp_path)))
    with ctr.background(*run) as client:
        _wait_for_boot(pid_of, "c1")
        daemon = pid_of("daemon", "c1")
        bed.containerd.kill()
        client.wait(10)

    bed.containerd.start()
    ctr("container", "delete", "c1").check()

    # Its root file system is gone, so the Create fails, with nobody there who would ask the daemon to go. (From 1.7 on
    # containerd itself takes a shim without a process for a leak.)
    began = time.monotonic()
    assert processes.wait_gone(daemon, timeout=30)
    measured.note("an unwanted Create: end of its daemon", time.monotonic() - began)
