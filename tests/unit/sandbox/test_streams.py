"""Contract: all output arrives, in order, whoever holds the stream; nobody holds back the exit."""

from __future__ import annotations

import anyio
import pytest

from sandbox import streams
from sandbox.streams import OutputPump

pytestmark = pytest.mark.anyio


class Guest:
    """Answers of an agent: bytes, or seconds of silence before an empty answer."""

    def __init__(self, *answers: bytes | float) -> None:
        self.answers = list(answers)

    async def read(self, size: int) -> bytes:
        if not self.answers:
            await anyio.sleep_forever()
        answer = self.answers.pop(0)
        if isinstance(answer, bytes):
            return answer
        await anyio.sleep(answer)
        return b""


class Reader:
    def __init__(self) -> None:
        self.got = b""

    async def write(self, data: bytes) -> None:
        self.got += data


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "QUIET", 0.1)
    monkeypatch.setattr(streams, "PROMPT", 0.05)
    monkeypatch.setattr(streams, "STUCK", 0.2)


async def test_a_pause_is_not_the_end(quick: None):
    reader = Reader()
    pump = OutputPump(Guest(b"early", 0.1, 0.1, b"late", b"").read, reader.write)
    with anyio.fail_after(5):
        await pump.run()
    assert reader.got == b"earlylate"
    assert pump.is_done


async def test_a_stream_that_a_descendant_holds_counts_as_drained_after_a_quiet_time(quick: None):
    reader = Reader()
    pump = OutputPump(Guest(b"early", 0.06, 0.06, 0.06, 0.06, 0.06, 0.06).read, reader.write)
    async with anyio.create_task_group() as group:
        group.start_soon(pump.run)
        with anyio.fail_after(5):
            await pump.drained()
        assert reader.got == b"early"
        assert not pump.is_done
        group.cancel_scope.cancel()


async def test_a_reader_that_never_reads_does_not_hold_back_the_exit_for_ever(quick: None):
    async def stuck(data: bytes) -> None:
        await anyio.sleep_forever()

    pump = OutputPump(Guest(b"data").read, stuck)
    async with anyio.create_task_group() as group:
        group.start_soon(pump.run)
        with anyio.fail_after(5):
            await pump.drained()
        group.cancel_scope.cancel()


async def test_output_that_keeps_coming_after_the_exit_is_waited_for(quick: None):
    reader = Reader()
    pump = OutputPump(Guest(*[b"x"] * 1000, b"").read, reader.write)
    async with anyio.create_task_group() as group:
        group.start_soon(pump.run)
        with anyio.fail_after(5):
            await pump.drained()
    assert len(reader.got) == 1000


async def test_a_descendant_that_writes_for_ever_does_not_hold_back_the_exit(monkeypatch):
    monkeypatch.setattr(streams, "QUIET", 0.1)

    async def endless(size: int) -> bytes:
        await anyio.lowlevel.checkpoint()
        return bytes(size)

    got = 0

    async def write(data: bytes) -> None:
        nonlocal got
        got += len(data)

    pump = OutputPump(endless, write)
    async with anyio.create_task_group() as group:
        group.start_soon(pump.run)
        with anyio.fail_after(5):
            await pump.drained()
        assert got >= streams.LEFT_BEHIND
        assert not pump.is_done
        group.cancel_scope.cancel()
