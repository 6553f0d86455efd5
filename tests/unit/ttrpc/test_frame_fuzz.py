"""A million frames, whole and mutated, through the parser: no crash, no hang, bounded memory."""

from __future__ import annotations

import random
import time

from ttrpc.frame import HEADER, HEADER_LENGTH, MESSAGE_MAX, Frame, FrameParser, Oversized, encode_frame

_FRAMES = 1_000_000
_BATCH = 1000
_PIECE = 1 << 16


def batch(rng: random.Random) -> bytearray:
    """A thousand frames of small sizes."""
    return bytearray().join(
        encode_frame(rng.getrandbits(32), rng.getrandbits(8), rng.getrandbits(8), rng.randbytes(rng.getrandbits(4)))
        for _ in range(_BATCH)
    )


def mutate(rng: random.Random, data: bytearray) -> None:
    """Flip, drop, insert and overwrite bytes, and make lengths huge now and then."""
    for _ in range(rng.randrange(8)):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.randrange(20)]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(20))
        else:
            data[at : at + 4] = rng.choice([MESSAGE_MAX, MESSAGE_MAX + 1, 0xFFFFFFFF, 0]).to_bytes(4, "big")


def accounted(frame: Frame | Oversized) -> int:
    """The bytes of the stream that a frame stands for."""
    return HEADER_LENGTH + (frame.length if isinstance(frame, Oversized) else len(frame.payload))


def test_a_million_frames_with_mutations_are_parsed_in_bounded_time_and_memory() -> None:
    rng = random.Random(20)
    started = time.monotonic()
    seen = 0
    parser = FrameParser()
    fed = consumed = 0

    while seen < _FRAMES:
        data = batch(rng)
        mutate(rng, data)
        position = 0
        while position < len(data):
            step = rng.choice([7, 100, 4096, _PIECE])
            piece = bytes(data[position : position + step])
            parsed = parser.feed(piece)
            position += step
            fed += len(piece)
            consumed += sum(map(accounted, parsed))
            seen += len(parsed)
        assert len(parser._buffer) < HEADER_LENGTH + MESSAGE_MAX + _PIECE
        # No byte is lost or seen twice: what was fed is in frames, in the buffer, or still to be skipped.
        assert fed == consumed + len(parser._buffer) - parser._discard
        if parser.mid_frame and rng.random() < 0.5:
            parser = FrameParser()
            fed = consumed = 0

        assert time.monotonic() - started < 30


def test_random_bytes_never_upset_the_parser() -> None:
    rng = random.Random(21)
    parser = FrameParser()

    for _ in range(20_000):
        # Small lengths, so that frames come out as well.
        data = HEADER.pack(rng.getrandbits(rng.choice([4, 32])), *rng.choices(range(256), k=3)) + rng.randbytes(10)
        for frame in parser.feed(data):
            assert isinstance(frame, Frame | Oversized)
        if parser._discard:
            parser = FrameParser()
