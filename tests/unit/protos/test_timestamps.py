"""Timestamps keep every nanosecond, before 1970 too."""

from __future__ import annotations

import time

import pytest
from google.protobuf.timestamp_pb2 import Timestamp as GoogleTimestamp
from hypothesis import given
from hypothesis import strategies as st

from protos import timestamps
from protos.codec import decode, encode
from protos.gen.wellknown import Timestamp
from protos.lean.gen import wellknown as lean

_YEAR_9999 = 253_402_300_799


@given(st.integers(timestamps.GO_ZERO_NS, _YEAR_9999 * 10**9 + 999_999_999))
def test_nanoseconds_survive_the_wire(nanoseconds):
    data = encode(timestamps.from_ns(nanoseconds))
    assert timestamps.to_ns(decode(Timestamp, data)) == nanoseconds
    assert timestamps.to_ns(decode(lean.Timestamp, data)) == nanoseconds
    assert GoogleTimestamp.FromString(data).ToNanoseconds() == nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "seconds", "nanos"),
    [
        (0, 0, 0),
        (-1, -1, 999_999_999),
        (1_700_000_000_123_456_789, 1_700_000_000, 123_456_789),
        (timestamps.GO_ZERO_NS, -62_135_596_800, 0),
        (timestamps.GO_ZERO_NS + 1, -62_135_596_800, 1),
    ],
)
def test_nanos_are_never_negative(nanoseconds, seconds, nanos):
    assert timestamps.split(nanoseconds) == (seconds, nanos)
    assert timestamps.from_ns(nanoseconds) == Timestamp(seconds=seconds, nanos=nanos)


def test_go_zero_time_has_the_bytes_that_containerd_sends():
    assert encode(timestamps.from_ns(timestamps.GO_ZERO_NS)).hex() == "088092b8c398feffffff01"


def test_nanos_out_of_their_range_still_count():
    assert timestamps.to_ns(Timestamp(seconds=1, nanos=-1)) == 999_999_999


def test_now_is_now():
    before = time.time_ns()
    now = timestamps.to_ns(timestamps.now())
    assert before <= now <= time.time_ns()
