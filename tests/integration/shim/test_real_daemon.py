"""The real daemon, without a pod in it yet: what needs root, and what `delete` does to it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.lean.gen.containerd_task_v2 import DeleteResponse
from sandbox.rundir import run_dir_for
from tests.harness import processes
from tests.harness.waiting import eventually
from tests.unit.shim.place import ShimPlace

pytestmark = pytest.mark.integration

_CRI = "io.kubernetes.cri."
_POD = "shimtestpod"
_MEMBER = {_CRI + "container-type": "container", _CRI + "sandbox-id": _POD}


@pytest.fixture
def pod(place: ShimPlace) -> Iterator[int]:
    """Pid of a real daemon that owns its run directory."""
    place.binary = place.real_binary
    bundle = place.bundle(_POD, annotations={_CRI + "container-type": "sandbox"})
    place.start(_POD, bundle)
    eventually(lambda: (_run_dir(place) / "state.json").exists(), "the daemon has its run directory")
    (daemon,) = processes.find(f"-id {_POD} -address {place.address}")
    yield daemon.pid
    if processes.is_alive(daemon.pid):
        os.kill(daemon.pid, signal.SIGTERM)
    eventually(lambda: not processes.is_alive(daemon.pid), "the daemon is gone")


def _run_dir(place: ShimPlace) -> Path:
    return run_dir_for(place.address, place.namespace, _POD)


def _delete(place: ShimPlace, container_id: str, bundle: Path) -> float:
    """Run `delete`; returns its seconds."""
    started = time.monotonic()
    done = place.run(*place.command(container_id, "-bundle", str(bundle), "delete"), cwd=bundle)
    assert done.returncode == 0, done.stdout
    assert DeleteResponse.FromString(done.stdout).exit_status == 137
    return time.monotonic() - started


def test_the_daemons_mounts_are_its_own(place: ShimPlace, pod: int) -> None:
    assert os.readlink(f"/proc/{pod}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    root = next(line for line in Path(f"/proc/{pod}/mountinfo").read_text().splitlines() if line.split()[4] == "/")
    assert "shared:" not in root


def test_a_signal_leaves_neither_run_directory_nor_socket(place: ShimPlace, pod: int) -> None:
    os.kill(pod, signal.SIGTERM)

    eventually(lambda: not processes.is_alive(pod), "the daemon is gone")
    assert not _run_dir(place).exists()
    assert list(place.sockets.iterdir()) == []


def test_deleting_a_live_sandbox_ends_its_daemon(place: ShimPlace, pod: int) -> None:
    seconds = _delete(place, _POD, place.root / "bundles" / _POD)

    assert seconds < 1
    assert not processes.is_alive(pod)
    assert not _run_dir(place).exists()
    assert list(place.sockets.iterdir()) == []


def test_deleting_a_container_of_a_live_pod_touches_nothing(place: ShimPlace, pod: int) -> None:
    _delete(place, "m1", place.bundle("m1", annotations=_MEMBER))

    assert processes.is_alive(pod)
    assert _run_dir(place).exists()


def test_deleting_a_container_of_a_dead_pod_cleans_the_pod(place: ShimPlace, pod: int) -> None:
    os.kill(pod, signal.SIGKILL)
    eventually(lambda: not processes.is_alive(pod), "the daemon is gone")

    _delete(place, "m1", place.bundle("m1", annotations=_MEMBER))

    assert not _run_dir(place).exists()
    assert list(place.sockets.iterdir()) == []


def test_a_stopped_daemon_does_not_stop_delete(place: ShimPlace, pod: int) -> None:
    os.kill(pod, signal.SIGSTOP)

    assert _delete(place, _POD, place.root / "bundles" / _POD) < 1.5
    assert not processes.is_alive(pod)
