"""Both ends of what connects the daemon with one QEMU."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hypervisor import vsock
from hypervisor.errors import HypervisorError
from hypervisor.vm import VmSpec
from hypervisor.wiring import wire
from tests.unit.hypervisor.test_command_line import SPEC


@pytest.fixture
def spec(tmp_path: Path) -> VmSpec:
    return replace(SPEC, run_dir=tmp_path)


def test_qemu_s_ends_are_closed_after_the_spawn_so_its_death_is_an_end_of_file(spec: VmSpec):
    with wire(spec) as wiring:
        fds = wiring.fds
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)
    with wiring.monitor, wiring.console:
        assert wiring.monitor.recv(1) == b""
        assert wiring.console.recv(1) == b""


def test_the_agent_can_be_connected_to_before_qemu_runs(spec: VmSpec, tmp_path: Path):
    with wire(spec) as wiring, socket.socket(socket.AF_UNIX) as client:
        assert wiring.agent_url == f"serial://{tmp_path}/agent"
        client.connect(wiring.agent_url.removeprefix("serial://"))
        assert len(wiring.fds) == 3
    wiring.monitor.close()
    wiring.console.close()


def test_a_spawn_that_fails_leaves_nothing(spec: VmSpec, tmp_path: Path):
    with pytest.raises(HypervisorError, match="no QEMU"), wire(spec) as wiring:
        raise HypervisorError("no QEMU")
    assert (wiring.monitor.fileno(), wiring.console.fileno()) == (-1, -1)
    assert list(tmp_path.iterdir()) == []


def test_over_vsock_qemu_inherits_the_claimed_address(spec: VmSpec, monkeypatch: pytest.MonkeyPatch):
    vhost = os.open("/dev/null", os.O_RDWR)
    monkeypatch.setattr(vsock, "open_vhost_vsock", lambda: (vhost, 77))
    with wire(replace(spec, agent_channel="vsock")) as wiring:
        assert (wiring.agent_url, wiring.agent_socket) == ("vsock://77:1024", None)
        assert vhost in wiring.fds
        assert (wiring.inherited.vhost_vsock, wiring.inherited.guest_cid) == (vhost, 77)
    with pytest.raises(OSError):
        os.fstat(vhost)
    wiring.monitor.close()
    wiring.console.close()
