"""Links, addresses, routes and neighbours: the messages both ways, and a conversation with the real kernel."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent import addresses, links, routes, rtnetlink
from guest.agent.errors import InvalidArgumentError, NotFoundError
from guest.agent.netlink import Netlink, NetlinkError
from protos.lean.gen.types import ArpNeighbor, Interface, IpAddress, IpFamily, Route

pytestmark = pytest.mark.anyio

INDEXES = {"eth0": 2}


class TestMessages:
    @given(st.dictionaries(st.integers(0, 100), st.binary(max_size=50), max_size=10))
    def test_attributes_come_back_as_they_went(self, values):
        data = b"".join(rtnetlink.attribute(kind, value) for kind, value in values.items())

        assert rtnetlink.attributes(data) == values

    @given(st.binary(max_size=200))
    def test_hostile_bytes_end_the_reading_and_nothing_else(self, data):
        rtnetlink.attributes(data)
        list(rtnetlink.messages(data))

    def test_a_request_is_read_back(self):
        data = rtnetlink.message(rtnetlink.RTM_GETLINK, 0, 7, b"abcd")

        assert list(rtnetlink.messages(data)) == [(rtnetlink.RTM_GETLINK, 7, b"abcd")]

    def test_an_acknowledgement_tells_the_error_and_the_kernels_words(self):
        body = struct.pack("=i", -101) + bytes(16) + rtnetlink.text(rtnetlink.NLMSGERR_ATTR_MSG, "no way")

        assert rtnetlink.acknowledgement(body) == (101, "no way")
        assert rtnetlink.acknowledgement(struct.pack("=i", 0)) == (0, "")


class TestAddresses:
    @pytest.mark.parametrize(
        ("mask", "family", "length"),
        [
            ("24", socket.AF_INET, 24),
            ("255.255.252.0", socket.AF_INET, 22),
            ("0.0.0.0", socket.AF_INET, 0),
            ("64", socket.AF_INET6, 64),
            ("", socket.AF_INET6, 128),
        ],
    )
    def test_masks_are_understood(self, mask, family, length):
        assert addresses.prefix_length(mask, family) == length

    @pytest.mark.parametrize(
        ("mask", "family"),
        [("33", socket.AF_INET), ("129", socket.AF_INET6), ("255.0.255.0", socket.AF_INET), ("x", socket.AF_INET)],
    )
    def test_malformed_masks_are_refused(self, mask, family):
        with pytest.raises(InvalidArgumentError):
            addresses.prefix_length(mask, family)

    def test_networks_are_address_and_length(self):
        assert addresses.network("10.0.0.0/8") == (bytes([10, 0, 0, 0]), 8)
        assert addresses.network("fd00::1") == (socket.inet_pton(socket.AF_INET6, "fd00::1"), 128)

    @pytest.mark.parametrize("text", ["", "10.0.0", "::g", "a" * 100, "1.2.3.4\0"])
    def test_malformed_addresses_are_refused(self, text):
        with pytest.raises(InvalidArgumentError):
            addresses.packed(text)

    def test_hardware_addresses_go_both_ways(self):
        assert addresses.hardware_text(addresses.hardware_address("02:00:CA:fe:00:01")) == "02:00:ca:fe:00:01"

    @pytest.mark.parametrize(
        "text", ["", "02:00:ca:fe:00", "02:00:ca:fe:00:1", "zz:00:ca:fe:00:01", "02:00:ca:fe:00:01:02"]
    )
    def test_malformed_hardware_addresses_are_refused(self, text):
        with pytest.raises(InvalidArgumentError):
            addresses.hardware_address(text)


class TestLinks:
    def test_the_kernel_lists_the_loopback_link(self):
        (loopback,) = [link for link in links.list_interfaces() if link.name == "lo"]

        assert loopback.hw_addr == "00:00:00:00:00:00"
        assert loopback.mtu > 0

    def test_a_refusal_tells_what_was_tried(self):
        with Netlink() as netlink, pytest.raises(NetlinkError, match="find nothing"):
            netlink.request("find nothing", rtnetlink.RTM_NEWADDR, 0, rtnetlink.ADDRESS.pack(2, 99, 0, 0, 999999))

    @pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 16, "..", "a:b", "a\0"])
    def test_malformed_names_are_refused(self, name):
        with pytest.raises(InvalidArgumentError):
            links.check_name(name)

    async def test_a_link_that_never_comes_is_not_found_in_time(self):
        wanted = Interface(name="none0", device="none0", hw_addr="02:00:00:00:00:99")

        with pytest.raises(NotFoundError, match="02:00:00:00:00:99"):
            await links.update_interface(wanted, 0.01)

    async def test_malformed_addresses_are_refused_before_anything_is_touched(self):
        wanted = Interface(name="lo", hw_addr="00:00:00:00:00:00", ip_addresses=[IpAddress(address="x")])

        with pytest.raises(InvalidArgumentError):
            await links.update_interface(wanted, 0.01)

    def test_ipv6_can_be_off(self, tmp_path):
        (tmp_path / "off").write_text("1\n")
        (tmp_path / "on").write_text("0\n")

        assert [links.has_ipv6(str(tmp_path / name)) for name in ("on", "off", "none")] == [True, False, False]


class TestRoutes:
    def parsed(self, **fields):
        return routes.parse_route(routes.route_body(Route(**fields), INDEXES), {2: "eth0"})

    def test_a_route_goes_both_ways(self):
        fields = {"dest": "10.1.0.0/16", "gateway": "10.0.0.1", "device": "eth0", "source": "10.0.0.2", "mtu": 1400}

        assert self.parsed(**fields) == Route(**fields)

    def test_a_default_route_has_no_destination(self):
        assert self.parsed(gateway="10.0.0.1", device="eth0").dest == ""
        assert self.parsed(dest="0.0.0.0/0", gateway="10.0.0.1").dest == ""

    def test_a_route_without_a_gateway_has_the_scope_of_the_link(self):
        assert self.parsed(dest="10.1.0.0/16", device="eth0").scope == routes.SCOPE_LINK

    def test_the_family_is_that_of_what_the_route_names(self):
        assert self.parsed(dest="fd00::/64", device="eth0").family == IpFamily.v6
        assert self.parsed(gateway="fd00::1", device="eth0").family == IpFamily.v6

    def test_a_route_over_a_link_that_is_not_there_is_not_found(self):
        with pytest.raises(NotFoundError, match="eth9"):
            self.parsed(dest="10.1.0.0/16", device="eth9")

    def test_routes_of_other_tables_and_kinds_are_left_out(self):
        def parse(table, kind):
            return routes.parse_route(rtnetlink.ROUTE.pack(socket.AF_INET, 0, 0, 0, table, 0, 0, kind, 0), {})

        assert parse(routes.RT_TABLE_MAIN, routes.RTN_UNICAST) is not None
        assert parse(255, routes.RTN_UNICAST) is None
        assert parse(routes.RT_TABLE_MAIN, 2) is None

    def test_the_kernel_lists_routes(self):
        assert all(isinstance(route, Route) for route in routes.list_routes())

    def test_too_many_are_refused(self):
        with pytest.raises(InvalidArgumentError):
            routes.update_routes([Route()] * 5000)

    def test_a_neighbour_is_permanent_by_default(self):
        neighbour = ArpNeighbor(
            to_ip_address=IpAddress(address="10.0.0.9/32"), device="eth0", lladdr="02:00:00:00:00:09"
        )

        body = routes.neighbour_body(neighbour, INDEXES)

        family, index, state, _, _ = rtnetlink.NEIGHBOUR.unpack_from(body)
        assert (family, index, state) == (socket.AF_INET, 2, routes.NUD_PERMANENT)
        assert rtnetlink.attributes(body[rtnetlink.NEIGHBOUR.size :]) == {
            rtnetlink.NDA_DST: bytes([10, 0, 0, 9]),
            rtnetlink.NDA_LLADDR: bytes([2, 0, 0, 0, 0, 9]),
        }

    def test_a_neighbour_without_an_address_is_refused(self):
        with pytest.raises(InvalidArgumentError):
            routes.neighbour_body(ArpNeighbor(device="eth0"), INDEXES)
