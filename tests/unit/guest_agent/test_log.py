"""The log: bounded lines at a bounded rate, the last ones kept."""

from __future__ import annotations

import logging
import os

import pytest

from guest.agent.log import BURST, KEPT_LINES, LINE_LIMIT, Console


@pytest.fixture
def console():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    handler = Console(writer)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    yield logger, handler, reader
    os.close(reader)
    os.close(writer)


def test_a_record_is_one_line_of_bounded_length(console):
    logger, _, reader = console

    logger.warning("a\nb %s", "x" * 10000)

    text = os.read(reader, 1 << 16).decode()
    assert text.count("\n") == 1
    assert "kata-agent warning: a b xxx" in text
    assert len(text) <= LINE_LIMIT + 1


def test_an_exception_is_told_with_its_innermost_place(console):
    logger, _, reader = console
    try:
        os.stat("/nonexistent")
    except OSError:
        logger.exception("stat")

    assert "FileNotFoundError" in (text := os.read(reader, 4096).decode())
    assert "test_log.py:" in text


def test_a_flood_is_cut_but_the_last_lines_are_kept(console):
    logger, handler, reader = console

    for number in range(BURST * 3):
        logger.warning("line %d", number)

    assert os.read(reader, 1 << 20).count(b"\n") <= BURST + 5
    assert len(handler.lines) == KEPT_LINES
    assert handler.lines[-1].endswith(f"line {BURST * 3 - 1}")
