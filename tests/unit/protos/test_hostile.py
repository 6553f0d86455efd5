"""Hostile bytes: nothing but a DecodeError comes of them, in bounded time and memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from google.protobuf.message import DecodeError as GoogleDecodeError
from hypothesis import given
from hypothesis import strategies as st

from protos.codec import DecodeError, decode, encode
from protos.gen import grpc as rich
from protos.gen.containerd.types import Sandbox
from protos.lean.gen import containerd_types
from protos.lean.gen import grpc as lean

_FRAME = 4 << 20
_EDGES = b"\x00\x01\x7f\x80\xff\x08\x0a\x0b\x0c\x0d\x12\x1a"

# Each is wrong for CreateContainerRequest (1 string, 3 message, 4 repeated, 6 Spec with its maps, 9 uint32).
_WRONG = {
    "truncated string": "0a 05 61",
    "truncated message": "1a 05 0a 01",
    "string beyond its message": "1a 02 0a 05 61 61 61 61 61",
    "string that is not UTF-8": "0a 02 c3 28",
    "surrogate in a string": "0a 03 ed a0 80",
    "overlong UTF-8": "0a 02 c0 80",
    "nested string that is not UTF-8": "22 04 0a 02 ff ff",
    "map key that is not UTF-8": "32 08 3a 06 0a 01 ff 12 01 61",
    "map value that is not UTF-8": "32 08 3a 06 0a 01 61 12 01 ff",
    "map value replaced, but not UTF-8": "32 0b 3a 09 0a 01 61 12 01 ff 12 01 61",
    "truncated map entry": "32 04 3a 02 0a 05",
    "endless varint": "48 ff ff ff ff ff ff ff ff ff ff ff",
    "field number 0 in a message": "1a 02 00 01",
    "end of a group that never began": "24",
    "group that never ends": "23 08 01",
    "text": "68 65 6c 6c 6f 20 77 6f 72 6c 64",
}


@pytest.mark.parametrize("message_type", [rich.CreateContainerRequest, lean.CreateContainerRequest])
@pytest.mark.parametrize("text", _WRONG.values(), ids=_WRONG.keys())
def test_wrong_bytes_are_an_error_that_names_the_class(message_type, text):
    with pytest.raises(DecodeError, match=r"^CreateContainerRequest: .+") as caught:
        decode(message_type, bytes.fromhex(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", [rich, lean])
def test_a_known_field_of_another_wire_type_is_an_unknown_field(module):
    data = bytes.fromhex("08 05 1a 02 08 07 48 01 4a 01 00 0d 01 02 03 04")
    message = decode(module.CreateContainerRequest, data)
    assert message == module.CreateContainerRequest(string_user=module.StringUser(), stdin_port=1)


@given(data=st.binary(max_size=400), index=st.integers(0, 10_000))
def test_random_bytes_decode_or_raise_a_decode_error(data, index, flavours):
    _, message_type = list(flavours.values())[index % len(flavours)]
    try:
        message = decode(message_type, data)
    except DecodeError:
        return
    assert decode(message_type, encode(message)) == message


@pytest.mark.parametrize("seed", range(8))
def test_of_mutated_messages_we_accept_none_that_google_rejects(seed, oracle, flavours):
    source = random.Random(seed)
    kinds = list(flavours.values())
    accepted = rejected = 0
    for _ in range(2500):
        full_name, message_type = source.choice(kinds)
        data = _mutated(oracle.random(full_name, source).SerializeToString(), source)
        try:
            message = decode(message_type, data)
        except DecodeError:
            rejected += 1
            continue
        accepted += 1
        try:
            oracle.type(full_name).FromString(data)
        except GoogleDecodeError:
            pytest.fail(f"{full_name} from {data.hex()}")
        assert decode(message_type, encode(message)) == message
    assert accepted > 100
    assert rejected > 100


def _mutated(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.randrange(1, 4)):
        at = source.randrange(len(changed) + 1)
        kind = source.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            del changed[at : at + source.randrange(1, 5)]
        elif kind == 2:
            changed[at:at] = bytes(source.choice(_EDGES) for _ in range(source.randrange(1, 12)))
        else:
            del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize(
    ("message_type", "piece"),
    [
        (rich.StatsContainerResponse, "12 00"),
        (lean.StatsContainerResponse, "12 00"),
        (rich.CgroupStats, "2a 00"),
        (lean.CgroupStats, "2a 00"),
        (Sandbox, "3a 00"),
        (containerd_types.Sandbox, "3a 00"),
    ],
)
def test_a_frame_full_of_empty_messages_is_refused_before_it_fills_the_memory(message_type, piece):
    data = bytes.fromhex(piece) * (_FRAME // 2)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="more than 65536 messages"):
            decode(message_type, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20


@pytest.mark.parametrize("message_type", [rich.CreateContainerRequest, lean.CreateContainerRequest])
@pytest.mark.parametrize(
    "piece", ["f8 7f 01", "1a 00", "32 02 3a 00"], ids=["unknown fields", "one message in pieces", "one map entry"]
)
def test_many_small_pieces_take_linear_time(message_type, piece):
    # Quadratic copying would take hours here, so finishing at all is the proof.
    count = 200_000 if piece != "32 02 3a 00" else 50_000
    decode(message_type, bytes.fromhex(piece) * count)
