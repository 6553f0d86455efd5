"""What of a pod is in which cgroup on the host, and that cgroups go with the pod.

With `sandbox_cgroup_only` everything is in the pod's, without it QEMU's vCPUs are, and the rest is overhead.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.resources import hierarchies
from tests.harness import processes
from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.harness.runtimes import KATA
from tests.harness.waiting import eventually
from tests.integration.resources.guest_size import host_cpus, limits, update
from tests.integration.system.vm import Vm

pytestmark = [pytest.mark.integration]

CONTAINER = "cgrouped"
PATH = f"kata-resources-test/{CONTAINER}"


@pytest.fixture
def cgroups(nothing_left: None) -> Iterator[list[Path]]:
    """The cgroup's directories in all hierarchies, none of which may be left; their parent is the test's own."""
    found = hierarchies.find(Path("/proc/self/mountinfo").read_text())
    directories = [each.mount_point / PATH for each in found]
    yield directories
    left = [str(path) for path in directories if path.exists()]
    for path in directories:
        if path.parent.exists():
            path.parent.rmdir()
    assert not left


@pytest.fixture
def pod_ctr(bed: Bed, tmp_path: Path, nothing_left: None) -> Ctr:
    """A ctr whose runtime has `sandbox_cgroup_only`."""
    configuration = tmp_path / "configuration.toml"
    configuration.write_text(bed.configuration.read_text())
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "50-cgroup.toml").write_text("[runtime]\nsandbox_cgroup_only = true\n")
    return Ctr(bed.socket, KATA, "default", configuration)


def helpers(bed: Bed) -> dict[int, str]:
    """Pids and names of the pod's processes on the host: its daemon and what that has started."""
    daemons = processes.find(rf"-id {CONTAINER} ", bed.containerd.processes())
    below = processes.descendants(one.pid for one in daemons)
    names = ("containerd-shim", "qemu-system", "virtiofsd")
    return {one.pid: one.name for one in (*daemons, *below) if one.name.startswith(names)}


def test_daemon_qemu_with_its_vcpus_and_virtiofsd_are_in_the_pods_cgroup(
    bed: Bed, cgroups: list[Path], pod_ctr: Ctr
) -> None:
    pod_ctr.run_detached(CONTAINER, "sleep", "3600", options=("--cgroup", f"/{PATH}"))
    try:
        there = helpers(bed)

        assert {name.split("-")[0] for name in there.values()} >= {"containerd", "qemu", "virtiofsd"}
        for directory in cgroups:
            assert set(map(int, (directory / "cgroup.procs").read_text().split())) == set(there), directory
        qemu = next(pid for pid, name in there.items() if name.startswith("qemu"))
        places = {path.read_text() for path in Path(f"/proc/{qemu}/task").glob("*/cgroup")}
        assert len(places) == 1, "a thread of QEMU is elsewhere"
    finally:
        pod_ctr.remove(CONTAINER)

    eventually(lambda: not any(path.exists() for path in cgroups), "the pod's cgroup goes", timeout=30)


SLICE = "kataresources.slice"
#: The same place in systemd's notation, and as a path.
SCOPE, SCOPE_PATH = f"{SLICE}:ctr:{CONTAINER}", f"{SLICE}/ctr-{CONTAINER}.scope"


@pytest.fixture
def split(nothing_left: None) -> Iterator[list[tuple[Path, Path]]]:
    """For each hierarchy, the cgroups of a pod's vCPUs and of its overhead; the test's own parent goes with it."""
    found = hierarchies.find(Path("/proc/self/mountinfo").read_text())
    yield [(each.mount_point / SCOPE_PATH, each.mount_point / "kata_overhead" / CONTAINER) for each in found]
    for each in found:
        if (each.mount_point / SLICE).exists():
            (each.mount_point / SLICE).rmdir()


@pytest.mark.skipif(
    hierarchies.find(Path("/proc/self/mountinfo").read_text())[0].is_unified,
    reason="cgroup v2 has threads of one process in one cgroup",
)
@pytest.mark.anyio
async def test_vcpus_are_in_the_pods_cgroup_and_the_rest_is_overhead(
    bed: Bed, split: list[tuple[Path, Path]], tmp_path: Path
) -> None:
    vm = Vm(bed, CONTAINER)
    options = ("--cgroup", SCOPE, "--fifo-dir", str(tmp_path))
    vm.ctr.run_detached(CONTAINER, "sleep", "3600", options=options)
    try:
        there = helpers(bed)
        qemu = next(pid for pid, name in there.items() if name.startswith("qemu"))
        for vcpus, overhead in split:
            assert set(numbers(overhead / "cgroup.procs")) == set(there), overhead
            _are_threads_of(qemu, numbers(vcpus / "tasks"), 1)
        if host_cpus() > 1:
            await update(vm, CONTAINER, limits(cpus=1))
            for vcpus, _ in split:
                _are_threads_of(qemu, numbers(vcpus / "tasks"), 2)
        (daemon,) = processes.find(rf"-id {CONTAINER} ", bed.containerd.processes())

        os.kill(daemon.pid, signal.SIGKILL)

        gone = [path for pair in split for path in pair]
        eventually(lambda: not any(path.exists() for path in gone), "`delete` removes both cgroups", timeout=60)
    finally:
        vm.ctr.remove(CONTAINER)


def numbers(file: Path) -> list[int]:
    """The ids in a file of a cgroup."""
    return [int(word) for word in file.read_text().split()]


def _are_threads_of(pid: int, threads: list[int], count: int) -> None:
    """So many threads, all of this process, and none of them its first."""
    assert len(threads) == count
    assert pid not in threads
    assert all(Path(f"/proc/{pid}/task/{thread}").exists() for thread in threads)


def test_a_killed_daemon_leaves_no_cgroup(bed: Bed, cgroups: list[Path], pod_ctr: Ctr, tmp_path: Path) -> None:
    options = ("--cgroup", f"/{PATH}", "--fifo-dir", str(tmp_path))
    pod_ctr.run_detached(CONTAINER, "sleep", "3600", options=options)
    (daemon,) = processes.find(rf"-id {CONTAINER} ", bed.containerd.processes())

    os.kill(daemon.pid, signal.SIGKILL)

    eventually(lambda: not any(path.exists() for path in cgroups), "`delete` removes the cgroup", timeout=30)
    pod_ctr.remove(CONTAINER)


def test_a_cgroup_that_can_not_be_made_fails_the_pod_and_leaves_nothing(
    bed: Bed, cgroups: list[Path], pod_ctr: Ctr
) -> None:
    name = "x" * 300

    done = pod_ctr.run(CONTAINER, "true", options=("--cgroup", f"/kata-resources-test/{name}"))

    assert done.returncode != 0
    assert "is not the path of a cgroup" in done.error_text
    pod_ctr.remove(CONTAINER)
    assert not helpers(bed)
