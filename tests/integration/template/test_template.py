"""Pods from a template, through containerd: proof that they are clones, that they work, and what failure leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hypervisor.template.store import NEW, STATE
from sandbox.factory.clone import PHASES
from tests.harness import processes
from tests.harness.netns import network_namespace
from tests.harness.waiting import eventually
from tests.integration.template.clones import BUILD_TIMEOUT, Clones, host_age, qemu_of

pytestmark = pytest.mark.integration

HOST, GUEST = "10.214.9.1", "10.214.9.2"


def test_the_first_pod_boots_and_the_next_is_a_clone_by_all_that_can_be_asked(clones: Clones) -> None:
    with clones.running("tpl-cold") as cold:
        eventually(clones.templates, "a template is built", BUILD_TIMEOUT)
        assert clones.start_of(cold).kind == "cold"
        assert "-incoming" not in qemu_of(cold)[1]
    with clones.running("tpl-clone") as clone:
        pid, arguments = qemu_of(clone)
        age = host_age(pid)
        uptime = float(clones.ctr.exec(clone, "cat", "/proc/uptime").check().text.split()[0])
        started = host_age(pid) - age
    start = clones.start_of(clone)
    assert start.kind == "template"
    assert start.phases.keys() >= PHASES
    assert arguments[arguments.index("-incoming") + 1] == "defer"
    # The guest has been up for longer than its QEMU has run: it brought that with it.
    assert uptime > age + started


def test_a_clone_has_volumes_exec_and_exit_codes_over_virtio_fs(clones: Clones, tmp_path: Path) -> None:
    clones.ensure_template()
    (tmp_path / "in").write_text("from the host")
    mount = f"type=bind,src={tmp_path},dst=/data,options=rbind:rw"
    with clones.running("tpl-fs", "--mount", mount) as name:
        assert clones.start_of(name).kind == "template"
        copied = clones.ctr.exec(name, "sh", "-c", "cat /data/in; echo back > /data/out; exit 7")
        assert (copied.returncode, copied.text) == (7, "from the host")
        assert (tmp_path / "out").read_text() == "back\n"


def test_a_clone_carries_the_pods_network(clones: Clones) -> None:
    clones.ensure_template()
    with network_namespace() as netns:
        netns.veth("eth0", f"{GUEST}/24", peer=(f"{HOST}/24",))
        with clones.running("tpl-net", *netns.option) as name:
            assert clones.start_of(name).kind == "template"
            assert clones.ctr.exec(name, "ping", "-c", "1", "-W", "20", HOST).returncode == 0


def test_without_a_file_system_daemon_clones_share_the_templates_memory(clones: Clones, tmp_path: Path) -> None:
    own = clones.configured(tmp_path, 'shared_fs = "none"')
    own.ensure_template()
    with own.running("tpl-private") as name:
        assert own.start_of(name).kind == "template"
        _, arguments = qemu_of(name)
        assert any("share=off" in word and "mem-path=/proc/self/fd/" in word for word in arguments)
        assert own.ctr.exec(name, "sh", "-c", "exit 3").returncode == 3


def test_a_clone_grows_to_what_its_container_may_use(clones: Clones) -> None:
    clones.ensure_template()
    with clones.running("tpl-large", "--memory-limit", str(512 << 20), "--cpus", "1") as name:
        assert clones.start_of(name).kind == "template"
        found = clones.ctr.exec(name, "grep", "MemTotal", "/proc/meminfo").check().text.split()
        cpus = clones.ctr.exec(name, "grep", "-c", "^processor", "/proc/cpuinfo").check().text
    assert int(found[1]) > (2048 + 384) * 1024
    # The template's own, and the one of the limit, as far as the host has as many.
    assert int(cpus) == min(2, os.cpu_count() or 1)


def test_clones_that_start_at_the_same_time_all_start(clones: Clones) -> None:
    clones.ensure_template()
    names = [f"tpl-many-{index}" for index in range(4)]
    with ThreadPoolExecutor(len(names)) as pool:
        try:
            list(pool.map(lambda name: clones.ctr.run_detached(name, "sleep", "1000"), names))
            assert {clones.start_of(name).kind for name in names} == {"template"}
        finally:
            list(pool.map(clones.ctr.remove, names))


@pytest.mark.parametrize("damage", ["changed", "useless"])
def test_a_template_that_is_of_no_use_is_dropped_with_a_line_and_the_pod_boots(clones: Clones, damage: str) -> None:
    template = clones.ensure_template()
    state = template / STATE
    if damage == "changed":
        state.write_bytes(state.read_bytes()[:-1] + b"x")
    else:
        _make_useless(template)
    with clones.running(f"tpl-{damage}") as name:
        assert clones.start_of(name).kind == "cold"
        assert clones.ctr.exec(name, "true").returncode == 0
        told = [line for line in clones.lines() if f"template {template.name[:12]} is dropped" in line]
        assert len([line for line in told if f"sandbox=tpl-{damage} " in line]) == 1
        eventually(clones.templates, "it is built anew", BUILD_TIMEOUT)


def _make_useless(template: Path) -> None:
    """A state that is what its manifest says, and no QEMU can read."""
    data = (template / STATE).read_bytes()[: 64 << 10]
    (template / STATE).write_bytes(data)
    about = json.loads((template / "manifest.json").read_text())
    about["state"] = hashlib.sha256(data).hexdigest()
    (template / "manifest.json").write_text(json.dumps(about))


def test_two_pods_that_find_no_template_build_one(clones: Clones) -> None:
    for template in clones.templates():
        shutil.rmtree(template)
    names = [f"tpl-pair-{index}" for index in range(2)]
    with ThreadPoolExecutor(len(names)) as pool:
        try:
            list(pool.map(lambda name: clones.ctr.run_detached(name, "sleep", "1000"), names))
            eventually(clones.templates, "a template is built", BUILD_TIMEOUT)
            eventually(lambda: not processes.find("guest=template,"), "whoever builds is through", BUILD_TIMEOUT)
        finally:
            list(pool.map(clones.ctr.remove, names))
    built = [line for line in clones.lines() if "template built" in line and "sandbox=tpl-pair-" in line]
    assert (len(clones.templates()), len(built)) == (1, 1)


def test_a_killed_builder_leaves_nothing_that_keeps_the_next_from_building(clones: Clones, tmp_path: Path) -> None:
    shutil.rmtree(clones.ensure_template())
    clones.ctr.run_detached("tpl-killed", "sleep", "1000", options=("--fifo-dir", str(tmp_path)))
    try:
        eventually(lambda: (clones.store / NEW / "memory").exists(), "a template is being built", 30)
        (daemon,) = _daemons("tpl-killed")
        os.kill(daemon, signal.SIGKILL)
    finally:
        clones.ctr.remove("tpl-killed")
    eventually(lambda: not processes.find("guest=template,"), "the template's VM goes with it", 30)
    assert not clones.templates()
    clones.ensure_template()
    assert not (clones.store / NEW).exists()


def _daemons(name: str) -> list[int]:
    """Pids of the daemons of a container's shim."""
    return [one.pid for one in processes.find(rf"-id {name}( |$)")]
