"""A guest that hangs (its QEMU is stopped): what is asked is answered, and it can be ended by the ordinary means."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.containerd.task.v2 import (
    ConnectRequest,
    DeleteRequest,
    KillRequest,
    PidsRequest,
    StateRequest,
    StatsRequest,
    TaskStub,
    WaitRequest,
)
from sandbox.rundir import read_journal
from tests.harness import processes
from tests.harness.cri import Cri
from tests.integration.faults.conftest import PidOf
from tests.integration.faults.direct import BOOT_TIMEOUT, Direct, connect, exec_request, shut_down, start
from tests.integration.faults.measured import Measured

pytestmark = pytest.mark.integration

#: containerd's own patience for State, Connect and statistics.
QUICK = 2.0
#: Seconds for what first has to find out that the guest does not answer.
PATIENT = 15.0


async def _timed(measured: Measured, what: str, call: Awaitable[Any]) -> Any:
    began = time.monotonic()
    try:
        return await call
    finally:
        measured.note(f"hung guest: {what}", time.monotonic() - began)


async def _boot(direct: Direct) -> tuple[str, dict[str, int]]:
    """A running container h1: its shim's address, and the pids of its processes."""
    address = direct.start("h1")
    async with connect(address) as task:
        await task.create(direct.request("h1"), timeout=BOOT_TIMEOUT)
        await start(task, "h1")
    journal = read_journal(direct.run_dir("h1"))["processes"]
    return address, {name: entry["pid"] for name, entry in journal.items()}


@asynccontextmanager
async def _stuck_calls(task: TaskStub) -> AsyncIterator[None]:
    """Calls that wait for the guest all the while, so that what must not wait for them is seen not to."""

    async def ignore(call: Awaitable[Any]) -> None:
        with pytest.raises(GRPCError):
            await call

    await task.exec(exec_request("h1", "stuck", ["true"]))
    async with anyio.create_task_group() as group:
        group.start_soon(ignore, start(task, "h1", "stuck"))
        group.start_soon(ignore, task.stats(StatsRequest(id="h1"), timeout=PATIENT))
        yield
        group.cancel_scope.cancel()


async def test_a_hung_guest_is_told_about_and_can_be_killed(direct: Direct, measured: Measured) -> None:
    address, pids = await _boot(direct)
    os.kill(pids["qemu"], signal.SIGSTOP)
    async with connect(address) as task, _stuck_calls(task):
        for what, call in {
            "State": task.state(StateRequest(id="h1"), timeout=QUICK),
            "Connect": task.connect(ConnectRequest(id="h1"), timeout=QUICK),
            "Pids": task.pids(PidsRequest(id="h1"), timeout=QUICK),
        }.items():
            await _timed(measured, what, call)
        with pytest.raises(GRPCError) as caught:
            await _timed(measured, "Stats", task.stats(StatsRequest(id="h1"), timeout=QUICK))
        assert caught.value.status is Status.DEADLINE_EXCEEDED

        await _timed(measured, "Kill 9", task.kill(KillRequest(id="h1", signal=9), timeout=PATIENT))

        assert (await task.wait(WaitRequest(id="h1"), timeout=PATIENT)).exit_status == 137
        assert (await task.wait(WaitRequest(id="h1", exec_id="stuck"), timeout=PATIENT)).exit_status in (137, 255)
        await _timed(measured, "Delete", task.delete(DeleteRequest(id="h1"), timeout=5))
        await _timed(measured, "Shutdown", shut_down(task))
    assert processes.wait_gone(pids["daemon"], timeout=5)


async def test_a_hung_guest_does_not_keep_its_daemon_from_ending(direct: Direct, measured: Measured) -> None:
    _, pids = await _boot(direct)
    os.kill(pids["qemu"], signal.SIGSTOP)
    began = time.monotonic()

    os.kill(pids["daemon"], signal.SIGTERM)

    assert processes.wait_gone(pids["daemon"], timeout=PATIENT)
    measured.note("hung guest: SIGTERM to the end of the daemon", time.monotonic() - began)


async def test_a_pod_that_hangs_is_stopped_and_removed_by_cri(cri: Cri, pid_of: PidOf, measured: Measured) -> None:
    pod = await cri.run_pod("p1")
    container = await cri.run(pod, "c1", "sleep", "1000")
    os.kill(pid_of("qemu", pod.id, "k8s.io"), signal.SIGSTOP)

    # The signal that asks does not arrive, and only the one that forces goes to the VM itself.
    with pytest.raises(GRPCError, match="no answer"):
        await _timed(measured, "CRI StopContainer", cri.stop(container, grace=1))
    await _timed(measured, "CRI StopPodSandbox", cri.stop_pod(pod))
    await _timed(measured, "CRI RemovePodSandbox", cri.remove_pod(pod))
