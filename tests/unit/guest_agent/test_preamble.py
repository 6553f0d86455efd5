"""The handshake of the virtio-serial port is found in whatever comes, and only there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.preamble import LENGTH, PREFIX, FrameTracker, PreambleScanner, answer, ends_with_preamble

NONCE = b"0123456789abcdef0123456789abcdef"
PREAMBLE = PREFIX + NONCE + b"\n"


def feed(pieces):
    scanner = PreambleScanner()
    found = None
    for piece in pieces:
        found = scanner.feed(piece) or found
    return found


def frame(payload: bytes, stream_id: int = 1) -> bytes:
    return len(payload).to_bytes(4, "big") + stream_id.to_bytes(4, "big") + b"\1\0" + payload


def test_the_length_is_that_of_the_documented_bytes():
    assert len(PREAMBLE) == LENGTH == 62
    assert answer(NONCE) == b"OK " + NONCE + b"\n"


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=40))
def test_it_is_found_after_any_rubbish_in_any_pieces(rubbish, sizes):
    data = rubbish + PREAMBLE
    pieces, position = [], 0
    for size in sizes:
        pieces.append(data[position : position + size])
        position += size

    assert feed([*pieces, data[position:]]) == (NONCE, b"")


def test_what_follows_it_is_handed_on():
    assert feed([PREAMBLE + b"rest"]) == (NONCE, b"rest")


def test_the_last_of_several_counts():
    other = PREFIX + b"f" * 32 + b"\n"

    assert feed([other + PREAMBLE]) == (NONCE, b"")


@pytest.mark.parametrize(
    "data",
    [
        PREFIX[1:] + NONCE + b"\n",
        PREFIX + NONCE,
        PREFIX + NONCE.upper() + b"\n",
        PREFIX + NONCE[:-1] + b"\n",
        bytes(16) + b"KATA-AGENT 2 " + NONCE + b"\n",
    ],
)
def test_what_is_not_quite_it_is_not_taken(data):
    assert feed([data]) is None


def test_more_zeros_than_needed_are_no_harm():
    assert feed([bytes(100) + PREAMBLE]) == (NONCE, b"")


def test_the_scanner_keeps_a_bounded_tail():
    scanner = PreambleScanner()

    for _ in range(100):
        scanner.feed(b"x" * 10000)

    assert len(scanner._tail) < LENGTH


@given(st.lists(st.binary(max_size=100), max_size=10), st.integers(1, 30))
def test_frames_are_followed_in_any_pieces(payloads, size):
    data = b"".join(map(frame, payloads))
    tracker = FrameTracker()

    assert all(tracker.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert not tracker.mid_payload


def test_a_frame_that_lacks_bytes_is_noticed():
    tracker = FrameTracker()

    assert tracker.feed(frame(b"x" * 100)[:-1])
    assert tracker.mid_payload


def test_a_preamble_at_a_frames_start_is_no_frame():
    tracker = FrameTracker()

    assert tracker.feed(frame(b"abc"))
    assert not tracker.feed(PREAMBLE)


def test_a_preamble_inside_a_payload_is_payload():
    tracker = FrameTracker()

    assert tracker.feed(frame(b"a" + PREAMBLE))
    assert not tracker.mid_payload


def test_the_end_of_the_stream_is_compared_whole():
    assert ends_with_preamble(b"xx" + PREAMBLE)
    assert not ends_with_preamble(PREAMBLE + b"x")
    assert not ends_with_preamble(PREAMBLE[1:])
