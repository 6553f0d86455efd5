"""The other ways into a VM, limits, queues, and namespaces and daemons that go before their time."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.bed import Bed
from tests.harness.netns import Netns, ip, network_namespace
from tests.harness.waiting import eventually
from tests.integration.network.conftest import configured
from tests.integration.network.inside import dial

pytestmark = pytest.mark.integration

LOOPBACK = "127.0.0.1"
HOST, GUEST = "10.214.1.1", "10.214.1.2"
MBIT = 1_000_000
#: What is sent through a limit, in bytes: more than any buffer on the way holds.
AMOUNT = 6 << 20


def linked(netns: Netns) -> str:
    return netns.veth("eth0", f"{GUEST}/24", peer=(f"{HOST}/24",))


def test_limits_hold_both_ways_over_several_queues_and_a_killed_daemon_leaves_nothing(
    bed: Bed, tmp_path: Path, nothing_left: None
) -> None:
    limits = {"rx_rate_limiter_max_rate": 40 * MBIT, "tx_rate_limiter_max_rate": 20 * MBIT, "default_vcpus": 2}
    ctr = configured(bed, tmp_path, hypervisor=limits)
    with network_namespace() as netns:
        linked(netns)
        netns.ip("link set lo up")
        before = netns.state()
        try:
            # What ctr leaves of the streams of a task that is killed has a place of its own.
            ctr.run_detached("limited", "sleep", "100000", options=(*netns.option, "--fifo-dir", str(tmp_path)))
            queues = ctr.exec("limited", "ls", "/sys/class/net/eth0/queues").text.split()
            into, out_of = rate_in(ctr, tmp_path), rate_out(ctr, tmp_path)
            daemon = next(one for one in processes.process_table().values() if " -id limited " in one.command)
            with dial(netns.path, 7, LOOPBACK) as forwarded, pytest.raises(ConnectionResetError):
                forwarded.recv(1)
            os.kill(daemon.pid, signal.SIGKILL)
        finally:
            ctr.remove("limited")

        assert {"rx-0", "rx-1", "tx-0", "tx-1"} <= set(queues)
        # Upwards without tolerance but for what the bucket holds; downwards the machine may be slow.
        assert 5 * MBIT < into < 44 * MBIT, into
        assert 3 * MBIT < out_of < 22 * MBIT, out_of
        eventually(lambda: netns.state() == before, "the namespace is as it was", 20)
        with pytest.raises(ConnectionRefusedError):
            dial(netns.path, 7, LOOPBACK)


def rate_in(ctr, fifos: Path) -> float:
    """Bits per second of a transfer into the container, over its last four fifths."""
    words = ("task", "exec", "--fifo-dir", fifos, "--exec-id", "in", "limited", "sh", "-c", "nc -l -p 7001 >/dev/null")
    with ctr.background(*words), eventually(lambda: connected(7001), "the container listens", 60) as stream:
        data = bytes(AMOUNT)
        stream.sendall(data[: AMOUNT // 5])
        began = time.monotonic()
        stream.sendall(data[AMOUNT // 5 :])
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""
        return AMOUNT * 4 / 5 * 8 / (time.monotonic() - began)


def rate_out(ctr, fifos: Path) -> float:
    """Bits per second of a transfer out of it, over its last four fifths."""
    with socket.create_server((HOST, 7002)) as server:
        script = f"head -c {AMOUNT} /dev/zero | nc {HOST} 7002"
        with ctr.background("task", "exec", "--fifo-dir", fifos, "--exec-id", "out", "limited", "sh", "-c", script):
            server.settimeout(60)
            stream, _ = server.accept()
            with stream:
                receive(stream, AMOUNT // 5)
                began = time.monotonic()
                receive(stream, AMOUNT - AMOUNT // 5)
                return AMOUNT * 4 / 5 * 8 / (time.monotonic() - began)


def receive(stream: socket.socket, size: int) -> None:
    stream.settimeout(60)
    while size > 0:
        data = stream.recv(min(size, 1 << 16))
        assert data, f"{size} bytes are missing"
        size -= len(data)


def connected(port: int) -> socket.socket | None:
    try:
        stream = socket.create_connection((GUEST, port), timeout=60)
    except OSError:
        return None
    return stream


def test_macvtap_carries_the_link_and_a_namespace_that_vanishes_takes_the_interface_only(
    bed: Bed, tmp_path: Path, nothing_left: None
) -> None:
    ctr = configured(bed, tmp_path, runtime={"internetworking_model": "macvtap"})
    with network_namespace() as netns:
        outside = linked(netns)
        netns.macvlan("mac0", "10.214.2.2/24", "10.214.2.1/24")
        try:
            ctr.run_detached("tapped", "sleep", "100000", options=netns.option)
            kinds = {name: link.get("linkinfo", {}).get("info_kind") for name, link in netns.links().items()}
            pings = "; ".join(f"ping -c 2 -W 10 {address}" for address in (HOST, "10.214.2.1"))
            pinged = ctr.exec("tapped", "sh", "-c", pings, exec_id="ping").text
            ip("netns", "delete", netns.name)
            ip("link", "delete", outside)
            eventually(
                lambda: "eth0" not in ctr.exec("tapped", "ip", "link", exec_id=f"l{time.monotonic_ns()}").text,
                "the interface goes",
                60,
                0.2,
            )
            still = ctr.exec("tapped", "echo", "alive", exec_id="alive").text
        finally:
            ctr.remove("tapped")

    # Below a macvlan there can be no macvtap.
    assert (kinds["tap0_kata"], kinds["tap1_kata"]) == ("macvtap", "tun")
    assert pinged.count("2 packets received") == 2
    assert still == "alive"


def test_none_leaves_the_vm_without_an_interface_and_the_namespace_alone(
    bed: Bed, tmp_path: Path, nothing_left: None
) -> None:
    ctr = configured(bed, tmp_path, runtime={"internetworking_model": "none"})
    with network_namespace() as netns:
        linked(netns)
        before = netns.state()

        links = ctr.run("alone", "ls", "/sys/class/net", options=("--rm", *netns.option)).check().text

        assert links == "lo"
        assert netns.state() == before
