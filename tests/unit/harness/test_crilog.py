"""CRI's log format."""

from __future__ import annotations

import pytest

from tests.harness.crilog import parse_log, read_log


def test_lines_keep_stream_order_and_spaces():
    lines = parse_log("t1 stdout F hello  world\nt2 stderr F \n")

    assert [(line.time, line.stream, line.text) for line in lines] == [
        ("t1", "stdout", "hello  world"),
        ("t2", "stderr", ""),
    ]


def test_parts_of_a_stream_become_one_line_though_another_stream_writes_between():
    lines = parse_log("t1 stdout P ab\nt2 stderr F x\nt3 stdout P cd\nt4 stdout F ef\n")

    assert [(line.time, line.text) for line in lines] == [("t2", "x"), ("t1", "abcdef")]


def test_an_unfinished_part_counts():
    assert [line.text for line in parse_log("t stdout P end")] == ["end"]


def test_other_text_is_an_error_that_shows_it():
    with pytest.raises(ValueError, match="nonsense"):
        parse_log("nonsense\n")


def test_a_log_that_was_not_made_is_empty(tmp_path):
    assert read_log(tmp_path / "none") == []
