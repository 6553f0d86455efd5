"""containerd dies and comes back: its pods have gone on meanwhile, and it finds all of them, with nothing lost."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from protos.gen.containerd.task.v2 import StateRequest, WaitRequest
from protos.gen.containerd.v1.types import Status as TaskStatus
from protos.gen.runtime.v1 import ContainerState, Mount, PodSandboxState
from tests.harness.bed import Bed
from tests.harness.cri import Cri
from tests.harness.ctr import Ctr
from tests.harness.waiting import eventually, eventually_async
from tests.integration.faults.conftest import address_of
from tests.integration.faults.direct import connect
from tests.integration.faults.measured import Measured

pytestmark = pytest.mark.integration

#: Lines of the flood: a few MiB, far more than all buffers between the guest and its reader.
LINES = 300_000
#: What containerd itself may hold of a stream when it is killed: what it had read and not yet written down.
HELD_BY_CONTAINERD = 128 * 1024
#: Seconds for a flood out of an emulated guest.
FLOOD_TIMEOUT = 60.0


def _after(flag: str, script: str) -> list[str]:
    """A command that does `script` once the host has made the file `flag` in the directory shown at /go."""
    return ["sh", "-c", f"until [ -e /go/{flag} ]; do sleep 0.1; done; {script}"]


class Reader:
    """The reading end of a FIFO, as a client of containerd has it; may be closed and opened again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self.data = b""

    def read(self, size: int | None = None, timeout: float = FLOOD_TIMEOUT) -> None:
        """Read until there are `size` bytes in all, or without it to the end of the file."""
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        deadline = time.monotonic() + timeout
        while size is None or len(self.data) < size:
            ready = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"nothing more to read within {timeout:g} s, after {len(self.data)} bytes"
            chunk = os.read(self._fd, 65536)
            self.data += chunk
            if not chunk:
                return

    def close(self) -> None:
        """Hang up."""
        os.close(self._fd)
        self._fd = -1


async def test_no_byte_and_no_exit_code_is_lost_under_ctr(
    bed: Bed, ctr: Ctr, tmp_path: Path, measured: Measured
) -> None:
    go, fifos = tmp_path / "go", tmp_path / "fifos"
    go.mkdir()
    options = ("--fifo-dir", str(fifos), "--mount", f"type=bind,src={go},dst=/go,options=rbind:ro")
    ctr.run_detached("c1", *_after("write", f"seq 1 {LINES}; exit 6"), options=options)
    leave = _after("leave", "exit 8")
    ctr("task", "exec", "--detach", "--fifo-dir", fifos, "--exec-id", "e1", "c1", *leave).check()
    async with connect(address_of(bed, "default", "c1")) as task:
        reader = Reader(Path((await task.state(StateRequest(id="c1"))).stdout))
        (go / "write").touch()
        reader.read(200_000)

        bed.containerd.kill()
        reader.close()
        (go / "leave").touch()

        assert (await task.wait(WaitRequest(id="c1", exec_id="e1"), timeout=20)).exit_status == 8
        bed.containerd.start()
        assert ctr.tasks()["c1"] == "RUNNING"
        began = time.monotonic()
        reader.read()
        reader.close()
        measured.note(f"the rest of {len(reader.data)} bytes after a restart", time.monotonic() - began)
        assert reader.data == b"".join(b"%d\n" % number for number in range(1, LINES + 1))
        assert (await task.wait(WaitRequest(id="c1"), timeout=20)).exit_status == 6
    eventually(lambda: ctr.tasks()["c1"] == "STOPPED", "containerd knows of the exit")
    assert "exit code 6" in ctr.delete("c1").error_text
    ctr.remove("c1")


async def test_a_pod_is_found_again_by_cri(bed: Bed, cri: Cri, tmp_path: Path) -> None:
    pod = await cri.run_pod("p1")
    mounts = [Mount(container_path="/go", host_path=str(tmp_path), readonly=True)]
    steady = await cri.run(pod, "steady", "sleep", "1000")
    quits = await cri.run(pod, "quits", *_after("quit", "exit 7"), mounts=mounts)
    floods = await cri.run(pod, "floods", "sh", "-c", f"seq 1 {LINES}; exit 6")

    async def has_begun() -> bool:
        return floods.log_path.exists() and floods.log_path.stat().st_size > 100_000

    await eventually_async(has_begun, "the flood has begun", FLOOD_TIMEOUT)
    async with connect(address_of(bed, "k8s.io", pod.id)) as task:
        bed.containerd.kill()
        (tmp_path / "quit").touch()
        assert (await task.wait(WaitRequest(id=quits.id), timeout=20)).exit_status == 7

        bed.containerd.start()

        assert (await task.state(StateRequest(id=steady.id))).status == TaskStatus.RUNNING
    await cri.wait_ready()
    assert (await cri.pod_status(pod)).state == PodSandboxState.SANDBOX_READY
    assert (await cri.status(steady)).state == ContainerState.CONTAINER_RUNNING
    assert (await cri.wait_exit(quits)).exit_code == 7
    assert (await cri.exec(steady, "echo", "here")).text == "here"
    assert (await cri.wait_exit(floods, FLOOD_TIMEOUT)).exit_code == 6
    numbers = [int(line.text) for line in floods.log() if line.text.isdecimal()]
    assert numbers[-1] == LINES
    assert LINES - len(numbers) <= HELD_BY_CONTAINERD // len(f"{LINES}\n")
