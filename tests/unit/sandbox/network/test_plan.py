"""Which links are carried and how, and what the guest is told of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.gen import types
from sandbox.errors import FailedPreconditionError
from sandbox.network import messages
from sandbox.network.plan import MAX_ENDPOINTS, MAX_RATE, NetworkPlan, carried_links, plan_endpoints
from sandbox.network.scan import Address, Link, Neighbour, Route, Scan

UP = 0x1


def link(index: int = 2, name: str = "eth0", **fields) -> Link:
    given = {"type": 1, "flags": UP, "mtu": 1500, "mac": f"02:00:00:00:00:{index:02x}", "kind": "veth"}
    return Link(index, name, **(given | fields))


def carried(*links: Link, **scan) -> list[str]:
    return [each.name for each in carried_links(Scan(links=links, **scan))]


class TestLinks:
    @pytest.mark.parametrize("kind", ["veth", "macvlan", "ipvlan", "tun", "bridge", "", "never-heard-of"])
    def test_whatever_carries_frames_and_is_up_is_carried(self, kind):
        assert carried(link(kind=kind)) == ["eth0"]

    def test_loopback_idle_and_enslaved_links_stay_out(self):
        assert carried(link(1, "lo", type=772), link(2, "gretap0", flags=0), link(3, "port", master=2)) == []

    def test_our_own_devices_stay_out(self):
        assert carried_links(Scan(links=(link(7, "tap0_kata"),)), ours={7}) == []

    def test_a_link_of_the_third_layer_is_refused_if_it_is_used(self):
        tunnel = link(3, "wg0", type=65534, kind="wireguard", mac="")

        assert carried(tunnel) == []
        with pytest.raises(FailedPreconditionError, match=r"interface wg0 \(wireguard\) carries no Ethernet frames"):
            carried(tunnel, addresses=(Address(3, 4, "10.0.0.1", 24),))

    def test_links_that_the_guest_could_not_tell_apart_are_refused(self):
        with pytest.raises(
            FailedPreconditionError, match="eth0, eth1 have the same hardware address 02:00:00:00:00:02"
        ):
            carried(link(), link(3, "eth1", mac=link().mac))

    def test_too_many_links_are_refused(self):
        with pytest.raises(FailedPreconditionError, match="17 network interfaces"):
            carried(*(link(index, f"eth{index}") for index in range(MAX_ENDPOINTS + 1)))


class TestEndpoints:
    def test_devices_take_names_that_are_free(self):
        links = (link(), link(3, "tap0_kata"), link(4, "eth1"))

        endpoints = plan_endpoints(NetworkPlan(), Scan(links=links), [links[0], links[2]])

        assert [each.device for each in endpoints] == ["tap1_kata", "tap2_kata"]

    @pytest.mark.parametrize(
        ("plan", "kind", "model"),
        [
            (NetworkPlan(model="macvtap"), "veth", "macvtap"),
            (NetworkPlan(model="macvtap"), "macvlan", "tcfilter"),
            (NetworkPlan(model="macvtap", rx_rate=1000), "veth", "tcfilter"),
            (NetworkPlan(), "veth", "tcfilter"),
        ],
    )
    def test_the_model_is_the_configured_one_where_it_can_be(self, plan, kind, model):
        one = link(kind=kind)

        assert plan_endpoints(plan, Scan(links=(one,)), [one])[0].model == model

    def test_what_is_undone_is_what_is_made(self):
        def places(**fields):
            return plan_endpoints(NetworkPlan(**fields), Scan(), [link()])[0].undoing["places"]

        assert places() == ["ingress"]
        assert places(tx_rate=8) == ["ingress", "root"]
        assert places(model="macvtap") == ["macvtap"]

    def test_a_rate_beyond_the_kernel_s_is_lowered(self):
        assert plan_endpoints(NetworkPlan(rx_rate=2**62), Scan(), [link()])[0].rx_rate == MAX_RATE

    @pytest.mark.parametrize(("qdiscs", "fields"), [("noqueue clsact", {}), ("tbf", {"tx_rate": 8})])
    def test_somebody_else_s_discipline_is_refused(self, qdiscs, fields):
        with pytest.raises(FailedPreconditionError, match=r"interface eth0 has a queueing discipline"):
            plan_endpoints(NetworkPlan(**fields), Scan(), [link(qdiscs=qdiscs)])


class TestMessages:
    def test_an_interface_has_its_addresses_but_those_that_the_guest_s_kernel_makes(self):
        scan = Scan(
            addresses=(
                Address(2, 4, "10.0.0.2", 24),
                Address(2, 4, "169.254.1.1", 16, 253),
                Address(2, 6, "fd00::2", 64),
                Address(2, 6, "fe80::2", 64, 253),
                Address(3, 4, "10.9.9.9", 24),
            )
        )

        message = messages.interface(scan, link(mtu=1400), "02/05")

        assert [(each.family, each.address, each.mask) for each in message.ip_addresses] == [
            (types.IpFamily.v4, "10.0.0.2", "24"),
            (types.IpFamily.v4, "169.254.1.1", "16"),
            (types.IpFamily.v6, "fd00::2", "64"),
        ]
        assert (message.name, message.mtu, message.hw_addr) == ("eth0", 1400, "02:00:00:00:00:02")
        assert message.device_path == "02/05"

    def test_routes_without_a_gateway_come_first_and_the_best_of_two_wins(self):
        scan = Scan(
            routes=(
                Route(2, 4, gateway="10.0.0.1", metric=100),
                Route(3, 4, gateway="10.1.0.1"),
                Route(2, 4, "10.0.0.0/24", protocol=2),
                Route(2, 4, "169.254.1.1/32", scope=253),
                Route(9, 4, "10.7.0.0/16"),
            )
        )

        found = messages.routes(scan, [link(), link(3, "eth1")])

        assert [(each.dest, each.gateway, each.device) for each in found] == [
            ("169.254.1.1/32", "", "eth0"),
            ("", "10.1.0.1", "eth1"),
        ]

    def test_neighbours_of_carried_links_are_told(self):
        scan = Scan(neighbours=(Neighbour(2, "fd00::1", "02:00:00:00:00:aa"), Neighbour(9, "10.0.0.9", "02::")))

        (found,) = messages.neighbours(scan, [link()])

        assert found.to_ip_address == types.IpAddress(family=types.IpFamily.v6, address="fd00::1")
        assert (found.device, found.lladdr, found.state) == ("eth0", "02:00:00:00:00:aa", 0x80)


class TestScan:
    def test_it_crosses_the_pipe_unchanged(self):
        scan = Scan((link(),), (Address(2, 4, "10.0.0.2", 24),), (Route(2, 4),), (Neighbour(2, "10.0.0.1", "02::"),))

        assert Scan.from_json(json.loads(json.dumps(scan.to_json()))) == scan

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        )
    )
    def test_anything_else_is_refused(self, value):
        with pytest.raises(ValueError, match="scan"):
            Scan.from_json({"links": [value], "addresses": [], "routes": [], "neighbours": []})
