"""The network of a pod with a worker, a guest and a monitor of the tests': what is told, plugged, and taken back."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager

import anyio
import pytest
from grpclib.const import Status

from agent_client.errors import AgentError
from hypervisor.hotplug.plug import Hotplug
from hypervisor.hotplug.slots import PciSlots
from sandbox.errors import FailedPreconditionError, SandboxError, UnavailableError, UnimplementedError
from sandbox.network import following, network
from sandbox.network.client import Device
from sandbox.network.namespace import namespace_of, open_namespace
from sandbox.network.network import PodNetwork
from sandbox.network.plan import NetworkPlan
from sandbox.network.scan import Address, Link, Route, Scan
from sandbox.oci import Linux, Namespace, Root, Spec
from tests.fakes.monitor import FakeMonitor

pytestmark = pytest.mark.anyio

ETH0 = Link(2, "eth0", 1, 1, 1500, "02:00:00:00:00:02")
ETH1 = Link(3, "eth1", 1, 1, 1500, "02:00:00:00:00:03")
FIRST = Scan((ETH0,), (Address(2, 4, "10.0.0.2", 24),), (Route(2, 4, gateway="10.0.0.1"),))


class FakeWorker:
    """A namespace whose scan is an attribute."""

    def __init__(self) -> None:
        self.scanned = FIRST
        self.attached: list[str] = []
        self.detached: list[str] = []
        self.resized: list[tuple[int, int]] = []
        self.error: SandboxError | None = None

    async def scan(self):
        return self.scanned

    async def attach(self, endpoints):
        if self.error:
            raise self.error
        self.attached += [each.name for each in endpoints]
        return [Device(100 + each.link, (os.open("/dev/null", os.O_RDWR),), ()) for each in endpoints]

    async def detach(self, endpoints):
        self.detached += [each.name for each in endpoints]

    async def resize(self, devices):
        self.resized += devices


class FakeGuest:
    """Records what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.error: AgentError | None = None

    async def update_interface(self, interface):
        if self.error:
            raise self.error
        self.told.append(f"{interface.name} {[each.address for each in interface.ip_addresses]} {interface.mtu}")

    async def update_routes(self, routes):
        self.told.append(f"routes {[each.gateway for each in routes]}")

    async def add_arp_neighbors(self, neighbors):
        self.told.append("neighbours")


@pytest.fixture
def worker(monkeypatch):
    made = FakeWorker()

    @asynccontextmanager
    async def working(namespace, started=None):
        yield made

    class Namespace:
        path, fd, device, inode = "/run/netns/x", -1, 1, 2

        def close(self):
            pass

    class Watch:
        ours: set[int] = set()

        def close(self):
            pass

    for module in (network, following):
        monkeypatch.setattr(module, "working", working)
    monkeypatch.setattr(network, "open_namespace", lambda path: Namespace())
    monkeypatch.setattr(network.Watch, "open", lambda fd: Watch())
    monkeypatch.setattr(network, "undo_in", lambda fd, links: made.detached.append(f"undo {len(links)}"))
    return made


@pytest.fixture
def journal():
    return {}


@pytest.fixture
def pod(worker, journal):
    made = PodNetwork(NetworkPlan("/run/netns/x"), journal.__setitem__)
    yield made
    made.close()


@pytest.fixture
def hotplug():
    return Hotplug(FakeMonitor(lambda call: None), PciSlots(1))


async def attached(pod: PodNetwork, guest: FakeGuest, hotplug: Hotplug) -> None:
    await pod.attach()
    pod.place(hotplug.slots)
    pod.release()
    await pod.configure(guest)


async def test_the_guest_is_told_what_is_there_and_nothing_twice(pod, hotplug):
    guest = FakeGuest()

    await attached(pod, guest, hotplug)
    await pod.configure(guest)

    assert guest.told == ["eth0 ['10.0.0.2'] 1500", "routes ['10.0.0.1']"]


async def test_it_is_journalled_before_it_is_made(pod, worker, journal):
    worker.error = SandboxError("interface eth0: Device or resource busy")

    with pytest.raises(SandboxError, match="eth0"):
        await pod.attach()

    assert [entry["name"] for entry in journal["network"]["links"]] == ["eth0"]
    pod.close()
    assert worker.detached == ["undo 1"]


async def test_what_the_guest_can_not_set_is_named(pod, hotplug):
    guest = FakeGuest()
    guest.error = AgentError("UpdateInterface", Status.INTERNAL, "add address 10.0.0.2: Invalid argument")

    with pytest.raises(UnavailableError, match=r"the guest could not set up interface eth0: .*Invalid argument"):
        await attached(pod, guest, hotplug)


async def test_an_interface_that_comes_later_is_plugged_in_and_told(pod, worker, hotplug):
    guest = FakeGuest()
    await attached(pod, guest, hotplug)
    guest.told.clear()
    worker.scanned = Scan((ETH0, ETH1), (*FIRST.addresses, Address(3, 4, "10.1.0.2", 24)), FIRST.routes)

    await following.update(pod, hotplug, guest)

    assert worker.attached == ["eth0", "eth1"]
    assert guest.told == ["eth1 ['10.1.0.2'] 1500", "routes ['10.0.0.1']"]
    assert sorted(hotplug.slots.taken.values()) == ["nic2", "nic3"]


async def test_a_link_that_has_become_another_is_plugged_in_anew_once_it_is_free(pod, worker, hotplug):
    guest = FakeGuest()
    await attached(pod, guest, hotplug)
    taken = Link(2, "eth0", 1, 1, 1500, "02:00:00:00:00:22", qdiscs="ingress")
    scans = iter([taken, Link(2, "eth0", 1, 1, 1500, taken.mac)])

    async def scan():
        return Scan((next(scans),), FIRST.addresses, FIRST.routes)

    worker.scan = scan
    await following.update(pod, hotplug, guest)

    assert (worker.detached, worker.attached) == (["eth0"], ["eth0", "eth0"])
    assert [each.endpoint.mac for each in pod.carried.values()] == [taken.mac]


async def test_a_new_size_goes_to_the_tap_and_the_guest(pod, worker, hotplug):
    guest = FakeGuest()
    await attached(pod, guest, hotplug)
    worker.scanned = Scan((Link(2, "eth0", 1, 1, 1400, ETH0.mac),), FIRST.addresses, FIRST.routes)

    await following.update(pod, hotplug, guest)

    assert worker.resized == [(102, 1400)]
    assert guest.told[-2:] == ["eth0 ['10.0.0.2'] 1400", "routes ['10.0.0.1']"]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([Namespace("network", "/run/netns/x")], "/run/netns/x"),
        ([Namespace("network")], None),
    ],
)
def test_the_spec_says_which_namespace(kinds, expected):
    assert namespace_of(Spec(Root("r"), linux=Linux(namespaces=kinds))) == expected


def test_nerdctl_says_it_in_an_annotation():
    linux = Linux(namespaces=[Namespace("network")])
    spec = Spec(Root("r"), linux=linux, annotations={"nerdctl/network-namespace": "/run/netns/n"})

    assert namespace_of(spec) == "/run/netns/n"


def test_a_spec_without_a_network_namespace_asks_for_the_host_s_and_is_refused():
    with pytest.raises(UnimplementedError, match="host network"):
        namespace_of(Spec(Root("r"), linux=Linux(namespaces=[Namespace("ipc")])))


def test_a_path_that_is_no_network_namespace_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, words in (
        (tmp_path / "none", "No such file"),
        (tmp_path / "fifo", "is not a network namespace"),
        ("/proc/self/ns/uts", "is not a network namespace"),
    ):
        with pytest.raises(FailedPreconditionError, match=words):
            open_namespace(str(path))
    with pytest.raises(UnimplementedError, match="host network"):
        open_namespace("/proc/self/ns/net")


async def test_a_pod_without_a_network_does_nothing(worker):
    pod = PodNetwork()

    await pod.attach()
    await pod.configure(FakeGuest())
    pod.close()

    assert (pod.nics, worker.attached, worker.detached) == ((), [], [])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SandboxError("busy")])
async def test_a_change_that_can_not_be_carried_over_is_no_end_of_the_pod(pod, worker, hotplug, monkeypatch, error):
    changes, tried = iter([None, None]), []

    async def changed():
        if next(changes, "no more") == "no more":
            await anyio.sleep_forever()

    async def update(*_):
        tried.append(error)
        raise error

    await attached(pod, FakeGuest(), hotplug)
    monkeypatch.setattr(pod.watch, "changed", changed, raising=False)
    monkeypatch.setattr(following, "update", update)

    async with anyio.create_task_group() as group:
        group.start_soon(following.follow, pod, hotplug, FakeGuest())
        with anyio.fail_after(5):
            while len(tried) < 2:
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()
