"""Pods whose VMs waited for them: proof that they did, that they work, and what the death of either side leaves."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.netns import network_namespace
from tests.harness.waiting import eventually
from tests.integration.cache.cached import FILL_TIMEOUT, Cached

pytestmark = pytest.mark.integration

HOST, GUEST = "10.214.11.1", "10.214.11.2"
PATIENCE = 60.0
#: The pod of the tests before, whose daemon is killed last.
FIRST, SECOND = "cached-one", "cached-two"


def test_pods_that_start_at_once_get_different_vms_that_waited_and_the_pool_fills_up_again(
    cached: Cached, tmp_path: Path
) -> None:
    waiting = cached.pool()
    (tmp_path / "in").write_text("from the host")
    mount = f"type=bind,src={tmp_path},dst=/data,options=rbind:rw"
    with network_namespace() as netns, ThreadPoolExecutor(2) as pool:
        netns.veth("eth0", f"{GUEST}/24", peer=(f"{HOST}/24",))
        options = {FIRST: (*netns.option, "--mount", mount), SECOND: ("--memory-limit", str(512 << 20))}
        before = time.monotonic()
        try:
            list(pool.map(lambda name: cached.ctr.run_detached(name, "sleep", "1000", options=options[name]), options))
            uptime = float(cached.ctr.exec(FIRST, "cat", "/proc/uptime").check().text.split()[0])
            assert uptime > time.monotonic() - before
            assert {cached.kind(name) for name in options} == {"cache"}
            assert {cached.qemu(name) for name in options} == waiting.keys()
            copied = cached.ctr.exec(FIRST, "sh", "-c", "cat /data/in; echo back > /data/out; exit 7")
            assert (copied.returncode, copied.text) == (7, "from the host")
            assert (tmp_path / "out").read_text() == "back\n"
            assert cached.ctr.exec(FIRST, "ping", "-c", "1", "-W", "20", HOST).returncode == 0
            memory = cached.ctr.exec(SECOND, "grep", "MemTotal", "/proc/meminfo").check().text.split()
            assert int(memory[1]) > (2048 + 384) * 1024
            drawn = [cached.ctr.exec(name, "cat", "/proc/sys/kernel/random/uuid").check().text for name in options]
            assert drawn[0] != drawn[1]
            _is_counted_with_its_pod(cached)
            cached.wait_full()
            assert not cached.pool().keys() & waiting.keys()
        finally:
            list(pool.map(cached.ctr.remove, options))
    assert not any(processes.is_alive(pid) for pid in waiting)


def _is_counted_with_its_pod(cached: Cached) -> None:
    """QEMU is in the cgroups of its pod's daemon."""
    daemon = cached.journal(FIRST)["processes"]["daemon"]["pid"]
    theirs, own = (Path(f"/proc/{pid}/cgroup").read_text() for pid in (cached.qemu(FIRST), daemon))
    assert theirs == own


def test_the_vm_dies_with_its_pods_daemon_and_not_with_the_server(cached: Cached, tmp_path: Path) -> None:
    cached.wait_full()
    cached.ctr.run_detached(FIRST, "sleep", "1000", options=("--fifo-dir", str(tmp_path)))
    try:
        qemu = cached.qemu(FIRST)
        assert cached.kind(FIRST) == "cache"
        waiting = cached.pool()
        os.kill(cached.server, signal.SIGKILL)
        for pid in waiting:
            assert processes.wait_gone(pid, PATIENCE)
        assert cached.ctr.exec(FIRST, "sh", "-c", "exit 3").returncode == 3
        with cached.running(SECOND):
            assert cached.kind(SECOND) == "cold"
            assert len(cached.told(SECOND)) == 1
        os.kill(cached.journal(FIRST)["processes"]["daemon"]["pid"], signal.SIGKILL)
        assert processes.wait_gone(qemu, PATIENCE)
    finally:
        cached.ctr.remove(FIRST)


def test_a_new_server_removes_what_a_killed_one_left_and_only_one_serves(cached: Cached) -> None:
    if cached.is_running:
        os.kill(cached.server, signal.SIGKILL)
        eventually(lambda: not cached.is_running, "the server is gone", PATIENCE)
    left = [path for path in cached.place.iterdir() if path.is_dir()]
    assert left
    for path in left:
        (path / "left").touch()
    cached.ctl("start").check()
    # New ones may have the same names.
    assert not any((path / "left").exists() for path in left)
    second = cached.ctl("start")
    assert second.returncode == 1
    assert "runs for this endpoint already" in second.error_text


def test_a_pod_that_needs_another_vm_boots_and_says_why(cached: Cached, tmp_path: Path) -> None:
    other = Cached.make(cached.bed, tmp_path, cached.endpoint.name, 2, parameters="agent.other=1")
    with other.running(FIRST):
        assert other.kind(FIRST) == "cold"
        (line,) = other.told(FIRST)
        assert "agent.other=1" in line


def test_a_drained_cache_has_no_vm_and_a_stopped_one_leaves_nothing(cached: Cached) -> None:
    waiting = eventually(cached.pool, "a VM waits", FILL_TIMEOUT)
    cached.ctl("drain").check()
    assert cached.pool() == {}
    assert not any(processes.is_alive(pid) for pid in waiting)
    cached.ctl("stop").check()
    assert not cached.endpoint.exists()
    assert not cached.place.exists()
    assert "no server answers" in cached.ctl("status").error_text
