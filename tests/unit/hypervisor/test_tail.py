"""The last bytes of a stream: bounded, and never in the writer's way."""

from __future__ import annotations

import os

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.tail import LINE_LIMIT, LineCutter, Tail, TailReader

pytestmark = pytest.mark.anyio
PATIENCE = 5.0


@given(st.lists(st.text(st.sampled_from("ab\n"), max_size=50)), st.integers(1, 40))
def test_a_tail_keeps_the_last_bytes_and_no_more(chunks: list[str], keep: int):
    tail = Tail(keep)
    for chunk in chunks:
        tail.feed(chunk.encode())
    everything, text = "".join(chunks), tail.text()
    assert everything.endswith(text)
    assert len(text) <= keep
    if len(everything) <= keep:
        assert text == everything


def test_bytes_that_are_no_text_do_no_harm():
    tail = Tail()
    tail.feed(b"\xff\xfe\x00 ok")
    assert tail.text().endswith(" ok")


def test_a_cut_tail_starts_with_a_line():
    tail = Tail(10)
    tail.feed(b"first line\nsecond\n")
    assert tail.text() == "second\n"


def test_a_single_endless_line_is_kept_as_it_is():
    tail = Tail(4)
    tail.feed(b"abcdefgh")
    assert tail.text() == "efgh"


def test_lines_are_handed_on_whole_and_long_ones_in_pieces():
    lines: list[str] = []
    cutter = LineCutter(lines.append)
    cutter.feed(b"one\ntw")
    cutter.feed(b"o\r\n" + b"x" * (LINE_LIMIT + 1))
    cutter.feed(b"end")
    cutter.flush()
    assert lines == ["one", "two", "x" * LINE_LIMIT, "x", "end"]


async def test_a_reader_reads_to_the_end_and_gives_the_descriptor_back():
    read_end, write_end = os.pipe()
    lines: list[str] = []
    reader = TailReader(read_end, on_line=lines.append)
    os.write(write_end, b"hello\nworld")
    os.close(write_end)
    with anyio.fail_after(PATIENCE):
        while not reader.closed:
            await anyio.lowlevel.checkpoint()
    assert (reader.tail.text(), lines) == ("hello\nworld", ["hello", "world"])
    with pytest.raises(OSError):
        os.fstat(read_end)


async def test_finish_takes_what_is_there_though_another_writer_lives():
    read_end, write_end = os.pipe()
    reader = TailReader(read_end)
    os.write(write_end, b"last words")
    reader.finish()
    reader.finish()
    assert (reader.tail.text(), reader.closed) == ("last words", True)
    os.close(write_end)


async def test_finish_is_bounded_when_a_writer_never_stops(monkeypatch: pytest.MonkeyPatch):
    read_end, write_end = os.pipe()
    reads: list[int] = []

    def endless(fd: int, size: int) -> bytes:
        reads.append(size)
        return b"x" * 10

    reader = TailReader(read_end)
    monkeypatch.setattr(os, "read", endless)
    reader.finish()
    assert len(reads) == 16
    os.close(write_end)
