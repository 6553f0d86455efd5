"""Frames on the wire, and the parser of a byte stream."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrpc.frame import HEADER, HEADER_LENGTH, MESSAGE_MAX, Frame, FrameParser, Oversized, encode_frame

FRAMES = st.lists(
    st.builds(
        Frame,
        stream_id=st.integers(0, 2**32 - 1),
        type=st.integers(0, 255),
        flags=st.integers(0, 255),
        payload=st.binary(max_size=300),
    ),
    max_size=12,
)


def wire(frames: list[Frame]) -> bytes:
    return b"".join(encode_frame(*frame) for frame in frames)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def test_header_is_length_stream_id_type_and_flags_in_big_endian() -> None:
    assert encode_frame(0x01020304, 2, 5, b"abc") == bytes.fromhex("00000003 01020304 02 05") + b"abc"


@given(FRAMES, st.lists(st.integers(0, 10_000), max_size=20))
def test_any_chunking_of_a_stream_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    parser = FrameParser()

    parsed = [frame for chunk in chunks(wire(frames), cuts) for frame in parser.feed(chunk)]

    assert parsed == frames
    assert not parser.mid_frame


@given(FRAMES.filter(bool), st.data())
def test_a_stream_that_breaks_off_gives_the_frames_before_and_is_known_to_be_incomplete(
    frames: list[Frame], data: st.DataObject
) -> None:
    whole = wire(frames)
    cut = data.draw(st.integers(1, len(encode_frame(*frames[-1])) - 1))
    parser = FrameParser()

    parsed = parser.feed(whole[:-cut])

    assert parsed == frames[:-1]
    assert parser.mid_frame


def test_a_payload_of_exactly_the_limit_is_a_frame() -> None:
    payload = bytes(MESSAGE_MAX)
    parser = FrameParser()

    (frame,) = parser.feed(encode_frame(1, 1, 0, payload))

    assert frame == Frame(1, 1, 0, payload)


@pytest.mark.parametrize("step", [1 << 16, 5 << 20, (5 << 20) + 100])
def test_an_oversized_payload_is_reported_with_its_header_skipped_and_followed_by_the_next_frame(step: int) -> None:
    length = 5 << 20
    stream = HEADER.pack(length, 7, 1, 0) + bytes(length) + encode_frame(9, 1, 0, b"next")
    parser = FrameParser()

    parsed = [frame for start in range(0, len(stream), step) for frame in parser.feed(stream[start : start + step])]

    assert parsed == [Oversized(7, 1, length), Frame(9, 1, 0, b"next")]


def test_an_oversized_payload_is_not_buffered() -> None:
    parser = FrameParser()
    reported = parser.feed(HEADER.pack(0xFFFFFFFF, 1, 1, 0))

    for _ in range(100):
        assert parser.feed(bytes(1 << 16)) == []

    assert reported == [Oversized(1, 1, 0xFFFFFFFF)]
    assert not parser._buffer
    assert parser.mid_frame


def test_a_large_payload_in_small_pieces_takes_linear_time() -> None:
    data = encode_frame(1, 1, 0, bytes(MESSAGE_MAX))
    parser = FrameParser()

    parsed = [frame for start in range(0, len(data), 512) for frame in parser.feed(data[start : start + 512])]

    assert [len(frame.payload) for frame in parsed] == [MESSAGE_MAX]


def test_header_length_is_ten_and_the_limit_four_mebibytes() -> None:
    assert (HEADER_LENGTH, MESSAGE_MAX) == (10, 4194304)
