"""TCP into a pod: throughput and round trips, beside the same guest on a bare QEMU with the same tap and redirect.

Both guests run busybox' `nc` behind one interface of virtio-net; what differs is all that the shim adds: a container
around the server, an agent beside it, virtio-fs, and a daemon on the host that should have no part in it.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from bench.bare_qemu import floor_command
from bench.outcome import Bar, Outcome
from bench.stats import median
from bench.subjects import OURS, Context
from guest.image import cpio
from hypervisor.hotplug.slots import PciSlots
from sandbox.network.network import PodNetwork
from sandbox.network.plan import NetworkPlan
from tests.harness import processes
from tests.harness.ctr import Ctr
from tests.harness.netns import Netns, network_namespace
from tests.harness.waiting import eventually

BARE = "bare QEMU"
#: At least this share of what the bare QEMU does.
_SHARE = 0.95
_ROUNDS = 10
_AMOUNT = 32 << 20
_TRIPS = 200
_TIMEOUT = 120.0
_ECHO, _SINK = 5001, 5002
_CONTAINER = "bench-network"
_SERVERS = f"nc -ll -p {_ECHO} -e cat & nc -ll -p {_SINK} -e dd of=/dev/null bs=64k 2>/dev/null"

_INIT = """#!/bin/busybox sh
box=/bin/busybox
$box mount -t devtmpfs dev /dev
read -r modules </etc/modules
$box modprobe -a $modules
$box mkdir -p /usr/bin
$box --install -s /usr/bin
export PATH=/usr/bin
ip link set eth0 up
ip addr add {address}/24 dev eth0
{servers}
"""


async def run(context: Context) -> Outcome:
    """The benchmark; raises `RuntimeError` if a guest does not serve."""
    ctr = context.bed.ctr()
    with network_namespace() as ours, network_namespace() as theirs:
        ours.veth("eth0", "10.216.1.2/24", peer=("10.216.1.1/24",))
        theirs.veth("eth0", "10.216.2.2/24", peer=("10.216.2.1/24",))
        with _container(ctr, ours) as command:
            async with _bare(context.scratch("net"), command, theirs):
                return await asyncio.to_thread(_measure, context, {OURS: "10.216.1.2", BARE: "10.216.2.2"})


def _measure(context: Context, addresses: dict[str, str]) -> Outcome:
    trips: dict[str, list[float]] = {subject: [] for subject in addresses}
    rates: dict[str, list[float]] = {subject: [] for subject in addresses}
    for address in addresses.values():
        _trips(address, 20)
        _rate(address)
    for _ in range(context.rounds(_ROUNDS)):
        for subject, address in addresses.items():
            trips[subject] += _trips(address, _TRIPS)
            rates[subject].append(_rate(address))
    slower = median(trips[OURS]) / median(trips[BARE])
    less = median(rates[BARE]) / median(rates[OURS])
    return Outcome(
        name="network",
        title="TCP into a pod: round trip of one byte",
        unit="ms",
        series=trips,
        bars=[
            Bar("round trip, times the bare QEMU's", slower, round(1 / _SHARE, 3), ""),
            Bar("bare QEMU's throughput, times the pod's", less, round(1 / _SHARE, 3), ""),
        ],
        facts=[f"throughput of {subject}: {median(rate):.0f} MiB/s (median)" for subject, rate in rates.items()],
    )


def _connect(address: str, port: int) -> socket.socket:
    def attempt() -> socket.socket | None:
        try:
            return socket.create_connection((address, port), timeout=_TIMEOUT)
        except OSError:
            return None

    stream = eventually(attempt, f"the guest serves at {address}:{port}", _TIMEOUT, 0.1)
    assert stream is not None
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def _trips(address: str, count: int) -> list[float]:
    """Round trips of one byte, in milliseconds."""
    with _connect(address, _ECHO) as stream:
        return [_trip(stream) for _ in range(count)]


def _trip(stream: socket.socket) -> float:
    began = time.perf_counter()
    stream.sendall(b"x")
    if stream.recv(1) != b"x":
        raise RuntimeError("the guest's echo has hung up")
    return (time.perf_counter() - began) * 1000


def _rate(address: str) -> float:
    """MiB per second into the guest, until its server has taken the last byte."""
    data = bytes(_AMOUNT)
    with _connect(address, _SINK) as stream:
        began = time.perf_counter()
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        stream.recv(1)
        return _AMOUNT / (1 << 20) / (time.perf_counter() - began)


@contextmanager
def _container(ctr: Ctr, netns: Netns) -> Iterator[list[str]]:
    """The pod, and the command line of its QEMU."""
    ctr.run_detached(_CONTAINER, "sh", "-c", _SERVERS, options=netns.option)
    try:
        table = processes.process_table().values()
        qemu = next(one for one in table if "qemu" in one.command and f"guest={_CONTAINER}" in one.command)
        yield Path(f"/proc/{qemu.pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    finally:
        ctr.remove(_CONTAINER)


@asynccontextmanager
async def _bare(directory: Path, command: list[str], netns: Netns) -> AsyncIterator[None]:
    """The same guest without us: its first program configures the interface and serves."""
    network = PodNetwork(NetworkPlan(str(netns.path)))
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(directory / "agent"))
        nobody.listen()
        try:
            await network.attach()
            network.place(PciSlots(1))
            bare = floor_command(command, nobody.fileno())
            place = bare.index("-initrd") + 1
            init = _INIT.format(address="10.216.2.2", servers=_SERVERS).encode()
            initrd = directory / "initrd"
            initrd.write_bytes(Path(bare[place]).read_bytes() + cpio.archive([cpio.file("init", init, 0o755)]))
            bare[place] = str(initrd)
            nics = [word for nic in network.nics for word in nic.arguments()]
            fds = [nobody.fileno(), *(fd for nic in network.nics for fd in nic.fds)]
            with (directory / "stderr").open("wb") as errors:
                qemu = subprocess.Popen([*bare, *nics], stdin=subprocess.DEVNULL, stderr=errors, pass_fds=fds)
            network.release()
            try:
                yield
            finally:
                qemu.kill()
                qemu.wait()
        finally:
            network.close()
