"""The log: logrus' lines, and never in the way."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim import log

pytestmark = pytest.mark.anyio


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    one = logging.getLogger("test.log")
    one.propagate = False
    one.setLevel(logging.DEBUG)
    yield one
    one.handlers[:] = []


def _attach(logger: logging.Logger, fd: int) -> log.FifoHandler:
    handler = log.FifoHandler(fd)
    handler.setFormatter(log.LogrusFormatter({"sandbox": "s1"}))
    logger.handlers[:] = [handler]
    return handler


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def _read_all(fd: int) -> bytes:
    data = b""
    while True:
        try:
            chunk = os.read(fd, 1 << 20)
        except BlockingIOError:
            return data
        if not chunk:
            return data
        data += chunk


def test_a_line_is_logrus_text(logger: logging.Logger) -> None:
    read, write = _pipe()
    _attach(logger, write)

    logger.warning("a %s", 'b "c"\nd')

    line = _read_all(read).decode()
    assert re.fullmatch(
        r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z" level=warning msg="a b \\"c\\"\\nd" sandbox=s1 '
        r"logger=test\.log\n",
        line,
    )


def test_a_traceback_stays_in_its_line(logger: logging.Logger) -> None:
    read, write = _pipe()
    _attach(logger, write)

    try:
        raise ValueError("cause")
    except ValueError:
        logger.exception("failed")

    line = _read_all(read).decode()
    assert line.count("\n") == 1
    assert "ValueError: cause" in line
    assert "level=error" in line


def test_a_long_line_is_cut(logger: logging.Logger) -> None:
    read, write = _pipe()
    _attach(logger, write)

    logger.info("x" * 100_000)

    assert len(_read_all(read)) == log.MAX_LINE + 1


def test_a_record_that_cannot_be_formatted_is_no_error(logger: logging.Logger) -> None:
    read, write = _pipe()
    _attach(logger, write)

    logger.info("%d", "no number")

    assert b"malformed" in _read_all(read)


@pytest.fixture
def levels() -> Iterator[None]:
    """The process' own levels, which are as they were afterwards."""
    before = [(one, one.level) for one in (logging.getLogger(), logging.getLogger("asyncio"))]
    yield
    for one, level in before:
        one.setLevel(level)


def test_levels_that_are_right_already_are_no_reason_to_go_through_all_loggers(levels: None) -> None:
    log.set_levels(debug=False)
    assert not logging.getLogger("test.other").isEnabledFor(logging.DEBUG)
    answers = logging.getLogger("test.other")._cache.copy()  # type: ignore[attr-defined]

    log.set_levels(debug=False)
    assert logging.getLogger("test.other")._cache == answers != {}  # type: ignore[attr-defined]

    log.set_levels(debug=True)
    assert logging.getLogger("test.other").isEnabledFor(logging.DEBUG)
    assert logging.getLogger("asyncio").level == logging.WARNING


def test_a_log_without_a_reader_is_no_error(logger: logging.Logger) -> None:
    read, write = _pipe()
    os.close(read)
    _attach(logger, write)

    logger.info("nobody reads this")

    os.close(write)


def test_a_full_log_keeps_lines_up_to_a_bound_and_tells_the_rest(logger: logging.Logger) -> None:
    read, write = _pipe()
    handler = _attach(logger, write)
    count = log.MAX_LINES + 400

    for number in range(count):
        logger.info("line %d %s", number, "x" * 500)
    text = b""
    while True:
        part = _read_all(read)
        handler.flush()
        if not part:
            break
        text += part

    lines = text.decode().splitlines()
    numbers = [int(found[1]) for line in lines if (found := re.search(r"line (\d+) ", line))]
    assert numbers == list(range(len(numbers)))
    dropped = re.search(r"(\d+) log lines dropped", text.decode())
    assert dropped is not None
    assert int(dropped[1]) == count - len(numbers)


async def test_the_loop_writes_what_was_kept_back(logger: logging.Logger) -> None:
    read, write = _pipe()
    handler = _attach(logger, write)
    handler.attach(asyncio.get_running_loop())
    arrived = asyncio.Event()
    text = b""

    def receive() -> None:
        nonlocal text
        text += os.read(read, 1 << 16)
        if b"last line" in text:
            arrived.set()

    for _ in range(200):
        logger.info("%s", "x" * 1000)
    logger.info("last line")
    asyncio.get_running_loop().add_reader(read, receive)
    async with asyncio.timeout(10):
        await arrived.wait()

    asyncio.get_running_loop().remove_reader(read)
    handler.attach(None)
    assert text.count(b"\n") == 201


def test_a_reader_that_comes_back_finds_whole_lines(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    _attach(logger, fd)
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    logger.info("one")
    assert b"one" in _read_all(first)
    os.close(first)

    logger.info("two")
    second = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    assert b"two" in _read_all(second)
    os.close(second)
    os.close(fd)
