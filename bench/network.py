"""TCP into a pod: throughput and round trips, beside the same guest on a bare QEMU with the same tap and redirect.

Both guests run busybox' `nc` in a container on virtio-fs, behind one interface of virtio-net; what differs is all that
the shim adds: cgroups on the host, and a daemon there that should have no part in it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from agent_client.client import AgentClient
from bench.bare_qemu import command_of, floor_command, launched, listening
from bench.bare_virtiofsd import share
from bench.outcome import Bar, Outcome
from bench.stats import median
from bench.subjects import OURS, Context
from hypervisor.hotplug.slots import PciSlots
from protos.gen import grpc as pb
from sandbox.network.network import PodNetwork
from sandbox.network.plan import NetworkPlan
from sandbox.sharing.virtiofs import DRIVER
from tests.harness.ctr import Ctr
from tests.harness.live_guest import SHARED, STANDING, Live, process, spec
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


async def run(context: Context) -> Outcome:
    """The benchmark; raises `RuntimeError` if a guest does not serve."""
    ctr = context.bed.ctr()
    with network_namespace() as ours, network_namespace() as theirs:
        ours.veth("eth0", "10.216.1.2/24", peer=("10.216.1.1/24",))
        theirs.veth("eth0", "10.216.2.2/24", peer=("10.216.2.1/24",))
        with _container(ctr, ours):
            async with _bare(context.scratch("net"), context.rootfs().parent, theirs):
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
def _container(ctr: Ctr, netns: Netns) -> Iterator[None]:
    """The pod."""
    ctr.run_detached(_CONTAINER, "sh", "-c", _SERVERS, options=netns.option)
    try:
        yield
    finally:
        ctr.remove(_CONTAINER)


@asynccontextmanager
async def _bare(directory: Path, shared: Path, netns: Netns) -> AsyncIterator[None]:
    """The same guest without us: a few calls of its agent configure the interface and start the container."""
    network = PodNetwork(NetworkPlan(str(netns.path)))
    path = directory / "agent"
    with ExitStack() as stack:
        stack.callback(network.close)
        await network.attach()
        network.place(PciSlots(1))
        root = stack.enter_context(share(_CONTAINER, directory, shared))
        listener = stack.enter_context(listening(path))
        bare = [
            *floor_command(command_of(_CONTAINER), listener.fileno(), root),
            *(word for nic in network.nics for word in nic.arguments()),
        ]
        fds = [listener.fileno(), *(fd for nic in network.nics for fd in nic.fds)]
        stack.enter_context(launched(bare, directory / "qemu.log", fds))
        listener.close()
        network.release()
        agent = await AgentClient.connect(f"serial://{path}", timeout=_TIMEOUT)
        stack.callback(agent.close)
        await _serve(Live(agent), network)
        yield


async def _serve(guest: Live, network: PodNetwork) -> None:
    """The sandbox, its interface and its container, in a guest that has none."""
    storage = pb.Storage(driver=DRIVER, source="kataShared", fstype="virtiofs", mount_point=SHARED)
    await guest.agent.create_sandbox(sandbox_id="bare", hostname="bare", storages=[storage])
    await network.configure(guest.agent.network)
    await guest.agent.create_container(container_id=STANDING, oci=spec(process("sh", "-c", _SERVERS)))
    await guest.agent.start_container(STANDING)
