"""Output FIFOs and files, on real ones: readers that are slow, gone, back, late or never there."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

import pytest
import uvloop

from sandbox.errors import InvalidArgumentError
from shim.stdio.output import PATIENCE, Discard, FileSink, PipeSink, Sink, open_fifo

#: More than a pipe holds.
BIG = 300_000

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on each event loop that the daemon may have, with a deadline."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def runner(work: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(20):
                return await work

        with asyncio.Runner(loop_factory=factory) as loop:
            return loop.run(bounded())

    return runner


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    os.mkfifo(path)
    return path


def _open_reader(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


async def _read(fd: int, size: int | None = None) -> bytes:
    """Read `size` bytes, or to the end, from a non-blocking descriptor."""
    data = b""
    while size is None or len(data) < size:
        try:
            chunk = os.read(fd, 65536 if size is None else min(65536, size - len(data)))
        except BlockingIOError:
            await asyncio.sleep(0.001)
            continue
        if not chunk:
            break
        data += chunk
    return data


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_written_arrives_and_ends(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        sink = open_fifo(str(fifo))
        reader = _open_reader(fifo)
        await sink.write(b"hello ")
        await sink.write(b"world")
        await sink.aclose()

        assert await _read(reader) == b"hello world"
        os.close(reader)

    run(scenario())


def test_a_reader_may_come_late(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        sink = open_fifo(str(fifo))
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(sink.write(b"x" * BIG))
            await asyncio.sleep(0.05)
            assert not writing.done()
            reader = _open_reader(fifo)
            assert len(await _read(reader, BIG)) == BIG
        await sink.aclose()
        os.close(reader)

    run(scenario())


def test_a_full_fifo_holds_back_its_own_stream_only(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        for name in ("a", "b"):
            os.mkfifo(tmp_path / name)
        full, other = open_fifo(str(tmp_path / "a")), open_fifo(str(tmp_path / "b"))
        reader = _open_reader(tmp_path / "b")
        async with asyncio.TaskGroup() as group:
            blocked = group.create_task(full.write(b"x" * BIG))
            await other.write(b"free")
            assert await _read(reader, 4) == b"free"
            assert not blocked.done()
            blocked.cancel()
        await full.aclose()
        await other.aclose()
        os.close(reader)

    run(scenario())


def test_a_reader_that_goes_and_comes_back_loses_nothing(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        data = os.urandom(BIG)
        sink = open_fifo(str(fifo))
        first = _open_reader(fifo)
        async with asyncio.TaskGroup() as group:
            group.create_task(sink.write(data))
            received = await _read(first, 100_000)
            os.close(first)
            second = _open_reader(fifo)
            received += await _read(second, BIG - len(received))
        await sink.aclose()

        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        os.close(second)

    run(scenario())


def test_closing_waits_for_a_slow_reader(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        sink = open_fifo(str(fifo))
        reader = _open_reader(fifo)
        async with asyncio.TaskGroup() as group:
            group.create_task(sink.write(b"x" * BIG))
            await asyncio.sleep(0)
            group.create_task(sink.aclose())
            assert len(await _read(reader)) == BIG
        os.close(reader)

    run(scenario())


def test_closing_does_not_wait_for_a_reader_that_is_gone(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        sink = open_fifo(str(fifo))
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(sink.write(b"x" * BIG))
            await asyncio.sleep(0.01)
            started = time.monotonic()
            await sink.aclose()

            assert time.monotonic() - started < PATIENCE / 2
            await writing

    run(scenario())


def test_closing_gives_up_on_a_reader_that_does_not_read(run: Run, fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shim.stdio.output.PATIENCE", 0.1)

    async def scenario() -> None:
        sink = open_fifo(str(fifo))
        reader = _open_reader(fifo)
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(sink.write(b"x" * BIG))
            await asyncio.sleep(0.01)
            await sink.aclose()
            await writing
        os.close(reader)

    run(scenario())


def test_nothing_can_be_written_after_the_end(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        sink = open_fifo(str(fifo))
        await sink.aclose()
        await sink.aclose()
        await sink.write(b"late")

    run(scenario())


def test_no_descriptor_stays_open(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        before = _open_fds()
        for _ in range(50):
            sink = open_fifo(str(fifo))
            await sink.write(b"x")
            await sink.aclose()
        assert _open_fds() == before

    run(scenario())


def test_a_pipe_whose_reader_is_gone_takes_everything(run: Run) -> None:
    async def scenario() -> None:
        read, write = os.pipe()
        sink = PipeSink(write)
        os.close(read)
        await sink.write(b"x" * BIG)
        await sink.aclose()

    run(scenario())


@pytest.mark.parametrize("name", ["missing", "dir/missing"])
def test_a_fifo_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="No such file"):
        open_fifo(str(tmp_path / name))


def test_a_file_in_the_place_of_a_fifo_is_appended_to_by_both_outputs(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"before\n")

    async def scenario() -> None:
        sinks = open_fifo(str(path)), open_fifo(str(path))
        for sink, text in zip(sinks, (b"out\n", b"err\n"), strict=True):
            await sink.write(text)
        for sink in sinks:
            await sink.aclose()

    run(scenario())

    assert path.read_bytes() == b"before\nout\nerr\n"


def test_a_fifo_that_nobody_reads_is_no_log_file(fifo: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="No such device"):
        FileSink(str(fifo))


def test_a_file_is_appended_to_and_its_directories_are_made(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.log"

    async def scenario() -> None:
        for text in (b"one\n", b"two\n"):
            sink = FileSink(str(path))
            await sink.write(text)
            await sink.aclose()
            await sink.aclose()

    run(scenario())

    assert path.read_bytes() == b"one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) & ~0o644 == 0


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidArgumentError, match="log file"):
        FileSink(str(tmp_path / "file" / "x.log"))


def test_a_full_disk_loses_output_but_no_process(run: Run) -> None:
    async def scenario() -> None:
        sink = FileSink("/dev/full")
        await sink.write(b"lost")
        await sink.aclose()

    run(scenario())


@pytest.mark.parametrize("open_sink", [FileSink, open_fifo])
def test_a_file_that_tells_at_its_end_that_output_is_lost_ends_no_process(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    open_sink: Callable[[str], Sink],
) -> None:
    close = os.close

    def over_quota(fd: int) -> NoReturn:
        close(fd)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    async def scenario() -> None:
        (tmp_path / "x.log").touch()
        sink = open_sink(str(tmp_path / "x.log"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "close", over_quota)
            await sink.aclose()
        await sink.aclose()

    run(scenario())

    assert "output may be lost: Disk quota exceeded" in caplog.text


def test_discarded_output_goes_nowhere(run: Run) -> None:
    async def scenario() -> None:
        sink = Discard()
        await sink.write(b"x" * BIG)
        await sink.aclose()

    run(scenario())
