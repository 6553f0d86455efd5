"""Every message in both flavours reads what Google's protobuf writes, and writes what it reads."""

from __future__ import annotations

import random
from typing import Any

import pytest

from protos.codec import decode, encode

_SAMPLES = 12


@pytest.fixture
def samples(message: tuple[str, type], oracle: Any) -> list[Any]:
    full_name, _ = message
    return [oracle.random(full_name, random.Random(f"{full_name}/{n}")) for n in range(_SAMPLES)]


def test_attributes_hold_what_google_wrote(message, samples, assert_same):
    _, message_type = message
    for theirs in samples:
        assert_same(decode(message_type, theirs.SerializeToString()), theirs)


def test_google_reads_what_we_write(message, samples):
    _, message_type = message
    for theirs in samples:
        ours = decode(message_type, theirs.SerializeToString())
        assert type(theirs).FromString(encode(ours)) == theirs


def test_fields_are_written_in_the_order_of_their_numbers_like_googles(message, samples):
    _, message_type = message
    for theirs in samples:
        if not _has_map(theirs.DESCRIPTOR):
            data = theirs.SerializeToString()
            assert encode(decode(message_type, data)) == data


def test_a_message_equals_its_own_round_trip_and_not_an_empty_one(message, samples):
    _, message_type = message
    for theirs in samples:
        ours = decode(message_type, theirs.SerializeToString())
        assert decode(message_type, encode(ours)) == ours
        if theirs.ByteSize():
            assert ours != message_type()


def test_a_new_message_is_what_no_bytes_decode_to(message):
    _, message_type = message
    assert decode(message_type, b"") == message_type()
    assert encode(message_type()) == b""


def test_no_message_contains_itself_so_that_nesting_is_bounded(message, oracle):
    full_name, _ = message
    inner, seen = [oracle.type(full_name).DESCRIPTOR], set()
    while inner:
        for field in inner.pop().fields:
            if field.message_type is not None and field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                inner.append(field.message_type)
    assert full_name not in seen


def _has_map(descriptor: Any) -> bool:
    return any(
        f.message_type is not None and (f.message_type.GetOptions().map_entry or _has_map(f.message_type))
        for f in descriptor.fields
    )
