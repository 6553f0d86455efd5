"""The `delete` binary for a sandbox whose daemon is dead: containerd runs one for each container, all at once."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from protos.lean.gen.containerd_task_v2 import DeleteResponse
from sandbox.rundir import read_journal
from tests.harness import processes
from tests.integration.faults.direct import BOOT_TIMEOUT, CALL_TIMEOUT, Direct, connect, pod_annotations, start
from tests.integration.faults.measured import Measured

pytestmark = pytest.mark.integration

#: Deletes at the same time: the pod's own, and those of its containers.
DELETES = 10
#: containerd's patience for a `delete`, in seconds.
CONTAINERD_PATIENCE = 5.0


async def test_ten_at_the_same_time_leave_nothing(direct: Direct, measured: Measured) -> None:
    async with connect(direct.start("pod", annotations=pod_annotations("pod"))) as task:
        await task.create(direct.request("pod"), timeout=BOOT_TIMEOUT)
        await start(task, "pod")
        await task.create(direct.member("m0", "pod"), timeout=CALL_TIMEOUT)
        await start(task, "m0")
    for number in range(1, DELETES - 1):
        direct.member(f"m{number}", "pod")
    journal = {name: entry["pid"] for name, entry in read_journal(direct.run_dir("pod"))["processes"].items()}

    os.kill(journal["daemon"], signal.SIGKILL)
    names = ["pod", *(f"m{number}" for number in range(DELETES - 1))]
    with ThreadPoolExecutor(DELETES) as pool:
        ends = list(pool.map(lambda name: direct.shim.delete(name, direct.directory / name), names))

    measured.note(f"the slowest of {DELETES} deletes", max(done.seconds for done in ends))
    for done in ends:
        assert done.returncode == 0, done.error_text
        assert done.stderr == b""
        answer = DeleteResponse.FromString(done.stdout)
        assert (answer.exit_status, answer.pid) in ((137, journal["qemu"]), (137, 0))
        assert done.seconds < CONTAINERD_PATIENCE
    assert journal["qemu"] in {DeleteResponse.FromString(done.stdout).pid for done in ends}
    assert not any(processes.is_alive(pid) for pid in journal.values())
    assert not direct.run_dir("pod").exists()
