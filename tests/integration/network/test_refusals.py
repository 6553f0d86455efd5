"""What can't be carried is refused in one line, before a VM starts, and nothing is left of the attempt."""

from __future__ import annotations

import pytest
from grpclib.exceptions import GRPCError

from protos.gen.runtime import v1 as api
from tests.harness.bed import Bed
from tests.harness.cri import Cri
from tests.harness.netns import network_namespace

pytestmark = pytest.mark.integration

HOST_NETWORK = "host network (hostNetwork, --net-host) is not possible"


def refused(bed: Bed, *options: str) -> str:
    """The error of a container that does not start."""
    ctr = bed.ctr()
    done = ctr.run("refused", "true", options=("--rm", *options))
    assert done.returncode, done
    return done.error_text


def test_the_host_s_network_is_refused_by_flag_and_by_path(bed: Bed, nothing_left: None) -> None:
    for options in (("--net-host",), ("--with-ns", "network:/proc/self/ns/net")):
        assert HOST_NETWORK in refused(bed, *options)


@pytest.mark.anyio
async def test_a_pod_with_host_network_is_refused(cri: Cri) -> None:
    options = api.NamespaceOption(network=api.NamespaceMode.NODE)
    linux = api.LinuxPodSandboxConfig(security_context=api.LinuxSandboxSecurityContext(namespace_options=options))

    with pytest.raises(GRPCError) as caught:
        await cri.run_pod("hostnet", linux=linux)

    message = str(caught.value.message)
    assert HOST_NETWORK in message
    assert "give it a network of its own, or another runtime" in message
    assert "\n" not in message


def test_a_namespace_that_is_not_there_or_is_none_is_refused(bed: Bed, nothing_left: None) -> None:
    assert "No such file" in refused(bed, "--with-ns", "network:/run/netns/kt-nowhere")
    assert "/proc/self/ns/uts is not a network namespace" in refused(bed, "--with-ns", "network:/proc/self/ns/uts")


def test_links_that_a_vm_can_not_have_are_refused_by_name(bed: Bed, nothing_left: None) -> None:
    with network_namespace() as netns:
        netns.ip("tuntap add l3tun mode tun")
        netns.ip("addr add 10.215.1.1/24 dev l3tun")
        netns.ip("link set l3tun up")
        assert "interface l3tun (tun) carries no Ethernet frames" in refused(bed, *netns.option)

        netns.ip("link delete l3tun")
        netns.veth("eth0", "10.215.1.2/24")
        assert netns.run("tc", "qdisc", "add", "dev", "eth0", "clsact").returncode == 0
        before = netns.state()
        assert "interface eth0 has a queueing discipline (clsact) already" in refused(bed, *netns.option)
        assert netns.state() == before


def test_two_links_of_one_hardware_address_are_refused(bed: Bed, nothing_left: None) -> None:
    with network_namespace() as netns:
        netns.veth("eth0", "10.215.1.2/24")
        netns.veth("eth1", "10.215.2.2/24")
        netns.ip(f"link set eth1 address {netns.links()['eth0']['address']}")

        assert "interfaces eth0, eth1 have the same hardware address" in refused(bed, *netns.option)
