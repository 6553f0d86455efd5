"""A container in a namespace that the test has made: what is in it is in the VM, then and later, and nothing stays."""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.harness.ctr import Ctr
from tests.harness.fixtures import BedKeeper
from tests.harness.netns import Netns, network_namespace
from tests.harness.waiting import eventually

pytestmark = pytest.mark.integration

ID = "netpod"
#: Seconds for a change to arrive in the guest.
PATIENCE = 60.0
_execs = itertools.count(1)


@dataclass
class Place:
    """A running container and its namespace."""

    ctr: Ctr
    netns: Netns
    before: list[tuple[str, ...]]

    def sh(self, script: str) -> str:
        """What a script says in the container, whether or not it succeeds."""
        return self.ctr.exec(ID, "sh", "-c", f"{script} 2>&1", exec_id=f"e{next(_execs)}").text

    def sees(self, command: str, text: str, *, gone: bool = False) -> None:
        """Wait until the output of `command` has `text`, or has it no more."""
        eventually(lambda: (text in self.sh(command)) is not gone, f"{command!r}: {text!r}, gone={gone}", PATIENCE, 0.2)


def fill(netns: Netns) -> None:
    """Links of all kinds, with what a CNI plugin may set."""
    netns.ip("link set lo up")
    netns.veth("eth0", "10.213.1.2/24", "fd13:1::2/64", peer=("10.213.1.1/24", "fd13:1::1/64"), mtu=1400)
    netns.macvlan("mac0", "10.213.2.2/24", "10.213.2.1/24")
    netns.veth("big0", "10.213.5.2/24", peer=("10.213.5.1/24",), mtu=9000)
    netns.ip("link add br0 type bridge")
    netns.veth("port0", peer=("10.213.3.1/24",))
    netns.ip("link set port0 master br0")
    netns.ip("link set br0 up")
    netns.ip("addr add 10.213.3.2/24 dev br0")
    netns.ip("route add default via 10.213.1.1")
    netns.ip("route add default via 10.213.2.1 metric 500")
    netns.ip("-6 route add default via fd13:1::1 dev eth0")
    netns.ip("route add 10.99.1.1 dev eth0 scope link")
    netns.ip("route add 10.99.2.0/24 via 10.99.1.1 dev eth0 mtu 1300")
    netns.ip("route add 10.99.3.0/24 via 169.254.7.7 dev eth0 onlink")
    netns.ip("route add 10.99.4.0/24 nexthop via 10.213.1.1 nexthop via 10.213.2.1")
    netns.ip("neigh add 10.99.1.1 lladdr 02:00:00:00:00:aa dev eth0 nud permanent")
    netns.ip("neigh add fd13:1::77 lladdr 02:00:00:00:00:bb dev eth0 nud permanent")
    # Not carried, as the port of the bridge is not.
    netns.ip("link add down0 type veth peer name down1")


@pytest.fixture(scope="module")
def place(bed_keeper: BedKeeper) -> Iterator[Place]:
    """One container for all the tests."""
    bed = bed_keeper.bed()
    check = bed.leak_check()
    with network_namespace() as netns:
        fill(netns)
        netns.settle()
        made = Place(bed.ctr(), netns, netns.state())
        try:
            made.ctr.run_detached(ID, "sleep", "100000", options=netns.option)
            yield made
        finally:
            made.ctr.remove(ID)
    check.assert_clean()


def test_both_families_reach_the_other_side(place: Place) -> None:
    for target in ("10.213.1.1", "fd13:1::1"):
        answer = place.sh(f"ping -c 2 -W 10 {target}")
        assert "2 packets received" in answer, answer


@pytest.mark.parametrize("target", ["10.213.2.1", "10.213.3.1"], ids=["macvlan", "bridge"])
def test_other_kinds_of_links_carry_frames_too(place: Place, target: str) -> None:
    answer = place.sh(f"ping -c 2 -W 10 {target}")

    assert "2 packets received" in answer, answer


def test_a_checksum_survives_a_link_of_jumbo_frames(place: Place) -> None:
    data = os.urandom(1 << 20)
    with socket.create_server(("10.213.5.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        script = f"nc 10.213.5.1 {server.getsockname()[1]} </dev/null | sha256sum; ping -c 1 -W 10 -s 8900 10.213.5.1"
        output = pool.submit(place.sh, script)
        server.settimeout(PATIENCE)
        stream, _ = server.accept()
        with stream:
            stream.sendall(data)

        assert hashlib.sha256(data).hexdigest() in output.result()
        assert " 1 packets received" in output.result()


def test_links_are_those_of_the_namespace_with_name_mtu_and_hardware_address(place: Place) -> None:
    seen = place.sh("for i in /sys/class/net/*; do echo $(basename $i) $(cat $i/mtu) $(cat $i/address); done")

    expected = {
        f"{name} {link['mtu']} {link['address']}"
        for name, link in place.netns.links().items()
        if name in ("lo", "eth0", "mac0", "big0", "br0")
    }
    assert set(seen.splitlines()) == expected


def test_routes_and_neighbours_are_those_of_the_namespace(place: Place) -> None:
    routes = {" ".join(line.split()) for line in place.sh("ip route; ip -6 route").splitlines()}

    assert {
        "default via 10.213.1.1 dev eth0",
        "10.99.1.1 dev eth0 scope link",
        "10.99.2.0/24 via 10.99.1.1 dev eth0",
        "10.99.3.0/24 via 169.254.7.7 dev eth0 onlink",
        "10.99.4.0/24 via 10.213.1.1 dev eth0",
        "default via fd13:1::1 dev eth0 metric 1024",
    } <= routes
    neighbours = place.sh("ip neigh")
    assert "10.99.1.1 dev eth0 lladdr 02:00:00:00:00:aa" in neighbours
    assert "fd13:1::77 dev eth0 lladdr 02:00:00:00:00:bb" in neighbours


def test_an_interface_that_comes_later_is_plugged_in_and_one_that_goes_is_unplugged(place: Place) -> None:
    place.netns.veth("late0", "10.213.4.2/24", peer=("10.213.4.1/24",))

    place.sees("ping -c 1 -W 5 10.213.4.1", " 1 packets received")
    place.netns.ip("link delete late0")
    place.sees("ip link", "late0", gone=True)
    assert "2 packets received" in place.sh("ping -c 2 -W 10 10.213.1.1")
    assert not [name for name in place.netns.links() if name == "tap4_kata"]


def test_addresses_routes_and_mtu_that_change_later_change_in_the_guest(place: Place) -> None:
    place.netns.ip("addr add 10.213.9.9/24 dev eth0")
    place.netns.ip("route add 10.98.0.0/16 via 10.213.1.1")
    place.sees("ip addr show eth0", "10.213.9.9/24")
    place.sees("ip route", "10.98.0.0/16 via 10.213.1.1")

    place.netns.ip("route delete 10.98.0.0/16")
    place.netns.ip("addr delete 10.213.9.9/24 dev eth0")
    place.netns.ip("link set eth0 mtu 1380")
    place.sees("ip route", "10.98.0.0/16", gone=True)
    place.sees("ip addr show eth0", "10.213.9.9/24", gone=True)
    place.sees("cat /sys/class/net/eth0/mtu", "1380")
    place.netns.ip("link set eth0 mtu 1400")
    place.sees("cat /sys/class/net/eth0/mtu", "1400")
    assert "2 packets received" in place.sh("ping -c 2 -W 10 10.213.1.1")


def test_the_namespace_is_afterwards_as_it_was(place: Place) -> None:
    place.ctr.kill(ID)
    place.ctr.delete(ID, options=("--force",))

    eventually(lambda: place.netns.state() == place.before, "the namespace is as it was", 20)
