"""Which messages of the kernel are news."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.network.watch import matters

OURS = {9}


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def link(index: int, family: int = socket.AF_UNSPEC) -> bytes:
    return message(16, struct.pack("=BxHiII", family, 1, index, 0, 0))


def address(index: int, family: int, scope: int) -> bytes:
    return message(20, struct.pack("=BBBBI", family, 24, 0, scope, index) + bytes(4))


def route(index: int, *, protocol: int = 3, table: int = 254, kind: int = 1) -> bytes:
    head = struct.pack("=BBBBBBBBI", socket.AF_INET, 24, 0, 0, table, protocol, 0, kind, 0)
    return message(24, head + struct.pack("=HHI", 8, 4, index))


def neighbour(index: int, state: int) -> bytes:
    return message(28, struct.pack("=BxxxiHBB", socket.AF_INET, index, state, 0, 0))


@pytest.mark.parametrize(
    "datagram",
    [link(2), address(2, socket.AF_INET, 253), address(2, socket.AF_INET6, 0), route(2), neighbour(2, 0x80)],
    ids=["link", "address", "address6", "route", "neighbour"],
)
def test_a_change_is_news_and_so_is_one_behind_what_is_none(datagram):
    assert matters(datagram, OURS)
    assert matters(link(9) + datagram, OURS)


@pytest.mark.parametrize(
    "datagram",
    [
        link(9),
        link(2, socket.AF_INET6),
        address(9, socket.AF_INET, 0),
        address(2, socket.AF_INET6, 253),
        route(9),
        route(2, protocol=2),
        route(2, table=255),
        route(2, kind=3),
        neighbour(2, 0x02),
        message(36, bytes(20)),
    ],
    ids=["ours", "family", "our-address", "link-local", "our-route", "kernel", "local", "broadcast", "learnt", "qdisc"],
)
def test_what_the_guest_is_not_told_of_is_none(datagram):
    assert not matters(datagram, OURS)


@given(st.binary(max_size=100))
def test_no_datagram_is_too_odd(datagram):
    assert matters(datagram, OURS) in (True, False)
