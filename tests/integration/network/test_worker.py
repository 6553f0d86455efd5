"""The process that works in a pod's namespace, in both of its kinds: a program of its own, and a fork of the daemon."""

from __future__ import annotations

import pytest

from hypervisor.hotplug.slots import PciSlots
from sandbox.network import client
from sandbox.network.kernel import library
from sandbox.network.network import PodNetwork
from sandbox.network.plan import NetworkPlan
from tests.harness import processes
from tests.harness.netns import network_namespace
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


@pytest.mark.parametrize("forked", [False, True])
async def test_it_makes_the_device_of_a_link_and_is_gone(forked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    library.load()
    monkeypatch.setattr(client, "is_loaded", lambda: forked)
    with network_namespace() as netns:
        netns.veth("eth0", "10.214.9.2/24", peer=("10.214.9.1/24",))
        before = netns.state()
        network = PodNetwork(NetworkPlan(str(netns.path)))
        try:
            network.warm()
            workers = eventually(lambda: processes.find(r"network.worker"), "there is a worker")
            await network.attach()
            network.place(PciSlots(1))
            (nic,) = network.nics
            made = netns.links()
        finally:
            network.close()

        assert {"kata-network-worker" in each.command for each in workers} == {forked}
        assert set(made) - {"lo"} > {"eth0"}
        assert nic.mac == made["eth0"]["address"]
        assert netns.state() == before
    eventually(lambda: not processes.find(r"network.worker"), "the workers are gone")
