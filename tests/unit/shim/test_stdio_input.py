"""The input FIFO, on a real one: clients come, go, come back, and close it on purpose."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sandbox.errors import InvalidArgumentError
from shim.stdio.input import FifoSource

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
    path = tmp_path / "in"
    os.mkfifo(path)
    return path


def _client(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK)


async def _read_to_end(source: FifoSource) -> bytes:
    data = b""
    while chunk := await source.read(4096):
        data += chunk
    return data


def test_a_client_that_detaches_does_not_end_the_input(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        source = FifoSource(str(fifo))
        for text in (b"first", b"second"):
            client = _client(fifo)
            os.write(client, text)
            os.close(client)
            assert await source.read(100) == text
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(source.read(100))
            await asyncio.sleep(0.02)
            assert not reading.done()
            reading.cancel()
        await source.aclose()

    run(scenario())


@pytest.mark.parametrize("client_stays", [True, False])
def test_close_io_ends_the_input_behind_what_is_buffered(run: Run, fifo: Path, client_stays: bool) -> None:
    async def scenario() -> None:
        source = FifoSource(str(fifo))
        client = _client(fifo)
        os.write(client, b"x" * 50_000)
        if not client_stays:
            os.close(client)
        source.close()
        source.close()

        assert await _read_to_end(source) == b"x" * 50_000
        assert await source.read(1) == b""
        await source.aclose()
        if client_stays:
            os.close(client)

    run(scenario())


def test_close_io_wakes_a_waiting_reader(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        source = FifoSource(str(fifo))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(source.read(100))
            await asyncio.sleep(0.01)
            source.close()
        assert reading.result() == b""
        await source.aclose()

    run(scenario())


def test_an_input_that_nobody_opens_waits(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        source = FifoSource(str(fifo))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await source.read(100)
        await source.aclose()

    run(scenario())


def test_closing_ends_a_waiting_reader_and_frees_everything(run: Run, fifo: Path) -> None:
    async def scenario() -> None:
        before = len(os.listdir("/proc/self/fd"))
        source = FifoSource(str(fifo))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(source.read(100))
            await asyncio.sleep(0.01)
            await source.aclose()
            await source.aclose()
        assert reading.result() == b""
        assert len(os.listdir("/proc/self/fd")) == before

    run(scenario())


def test_a_file_is_read_to_its_end(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)

    async def scenario() -> None:
        source = FifoSource(str(path))
        assert await _read_to_end(source) == b"x" * 10_000
        await source.aclose()

    run(scenario())


def test_an_input_that_can_not_be_read_ends(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        source = FifoSource(str(tmp_path))
        assert await _read_to_end(source) == b""
        await source.aclose()

    run(scenario())


def test_a_fifo_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="input FIFO"):
        FifoSource(str(tmp_path / "missing"))
