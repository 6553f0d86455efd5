"""kata-ctl beside a real pod: what it tells of it, through the journal, the management socket and the monitor."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctl import pods
from shim.management.exposition import Family, parse
from tests.harness import paths
from tests.harness.command import Result, run
from tests.harness.ctr import Ctr

pytestmark = pytest.mark.integration

CONTROL = paths.PREFIX / "bin" / "kata-ctl"
POD = f"ctl-{os.getpid()}"
TIMEOUT = 60.0


def kata_ctl(*arguments: str) -> Result:
    return run(str(CONTROL), *arguments, timeout=TIMEOUT)


def families(text: str) -> dict[str, Family]:
    return {family.name: family for family in parse(text)}


def values(family: Family, *labels: tuple[str, str]) -> list[str]:
    return [sample.value for sample in family.samples if set(labels) <= set(sample.labels)]


def test_a_pod_seen_from_outside(ctr: Ctr, tmp_path: Path) -> None:
    """One pod for all that needs a running one; its run directory, socket and all, must be gone afterwards."""
    ctr.run_detached(POD, "sleep", "1000")

    _check_listed()
    _check_inspected()
    _check_phases()
    _check_metrics()
    _check_rules(tmp_path)
    _check_monitor()

    run_dir = pods.find(POD).run_dir
    ctr.remove(POD)
    assert not run_dir.exists()
    assert "no sandbox" in kata_ctl("inspect", POD).error_text


def _check_listed() -> None:
    [entry] = [one for one in json.loads(kata_ctl("list", "--json").check().text) if one["sandbox_id"] == POD]
    assert (entry["state"], entry["namespace"], entry["start"]["kind"]) == ("running", "default", "cold")
    assert POD in kata_ctl("list").check().text


def _check_inspected() -> None:
    told = json.loads(kata_ctl("inspect", POD[:-1]).check().text)
    assert told["daemon"]["containers"][POD]["status"] == "running"
    assert told["daemon"]["vm"]["state"] == "running"
    assert told["processes"].keys() == {"daemon", "qemu", "virtiofsd"}
    assert told["processes"]["qemu"]["rss_kib"] > 10_000


def _check_phases() -> None:
    text = kata_ctl("phases", POD).check().text
    assert "cold start in" in text
    assert "agent" in text
    assert "#" in text


def _check_metrics() -> None:
    socket = pods.find(POD).socket
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    told = families(kata_ctl("metrics", POD).check().text)
    assert values(told["kata_shim_agent_up"]) == ["1"]
    assert values(told["kata_shim_vm_state"], ("state", "running")) == ["1"]
    assert int(values(told["kata_hypervisor_fds"])[0]) > 5
    assert {"kata_shim_proc_status", "kata_virtiofsd_threads", "kata_guest_meminfo", "kata_agent_threads"} <= set(told)
    assert int(values(told["kata_shim_pod_overhead_memory_in_bytes"])[0]) > 50 << 20
    phases = told["kata_shim_start_phase_duration_seconds"]
    assert phases.kind == "histogram"
    assert values(phases, ("phase", "agent"), ("kind", "cold"), ("le", "+Inf")) == ["1"]


def _check_rules(directory: Path) -> None:
    """The guest's packet filter is loaded and read back; what it can't read is told in its words."""
    rules, rubbish = directory / "rules", directory / "rubbish"
    rules.write_text("*filter\n-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT\n")
    rubbish.write_text("*filter\nnonsense\nCOMMIT\n")

    kata_ctl("iptables", "set", POD, str(rules)).check()
    refused = kata_ctl("iptables", "set", POD, str(rubbish))

    assert "-A INPUT -s 192.0.2.1/32 -j DROP" in kata_ctl("iptables", "get", POD).check().text
    assert (refused.returncode, refused.error_text.count("\n")) == (1, 0)
    assert "SetIPTables" in refused.error_text


def _check_monitor() -> None:
    """It labels samples with their pod, and a pod that hangs keeps nobody waiting for long."""
    daemon = pods.find(POD).pid
    with monitor() as port:
        told = families(get(port, "/metrics"))
        assert values(told["kata_shim_threads"], ("sandbox_id", POD))
        assert POD in json.loads(get(port, "/sandboxes"))
        assert get(port, f"/agent-url?sandbox={POD}").partition("://")[0] in ("serial", "vsock")
        os.kill(daemon, signal.SIGSTOP)
        try:
            told = families(get(port, "/metrics"))
        finally:
            os.kill(daemon, signal.SIGCONT)
        assert not values(told.get("kata_shim_threads", Family("", "")), ("sandbox_id", POD))
        assert int(values(told["kata_monitor_scrape_failed_count"])[0]) >= 1


@contextmanager
def monitor() -> Iterator[int]:
    """A monitor on a free port; ends when the block does."""
    with subprocess.Popen(
        [CONTROL, "monitor", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield int(line.rpartition(":")[2].partition("/")[0])
        finally:
            process.kill()


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        connection.close()


def test_this_host_is_checked() -> None:
    done = kata_ctl("check", "--file", str(paths.CONFIGURATION))
    assert done.returncode == 0, done.text
    for subject in ("configuration", "kvm", "vhost-vsock", "qemu", "virtiofsd", "cgroups"):
        assert subject in done.text
