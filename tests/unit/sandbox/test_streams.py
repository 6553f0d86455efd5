"""Contract: all output arrives, in order, whoever holds the stream; nobody holds back the exit."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from sandbox import streams
from sandbox.streams import OutputPump, pump_stdin
from tests.fakes.world import FakeStdio

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


class Endless:
    """Gives as much as is asked for, some times; then it has ended."""

    def __init__(self, answers: int) -> None:
        self.asked: list[int] = []
        self._left = answers

    async def read(self, size: int) -> bytes:
        self.asked.append(size)
        self._left -= 1
        return bytes(size) if self._left >= 0 else b""


async def test_more_is_asked_for_as_long_as_there_is_more_and_the_reader_takes_it_at_once():
    guest, reader = Endless(6), Reader()
    await OutputPump(guest.read, reader.write).run()
    assert guest.asked == [streams.READ_LEAST << shift for shift in range(5)] + [streams.READ] * 2
    assert len(reader.got) == sum(guest.asked[:-1])


async def test_no_more_is_asked_for_of_a_stream_that_gives_less():
    asked: list[int] = []
    answers = [b"line\n"] * 5 + [b""]

    async def read(size: int) -> bytes:
        asked.append(size)
        return answers.pop(0)

    await OutputPump(read, Reader().write).run()
    assert set(asked) == {streams.READ_LEAST}


async def test_little_is_held_for_a_reader_that_is_slow(monkeypatch: pytest.MonkeyPatch):
    guest, reader = Endless(6), Reader()

    async def write(data: bytes) -> None:
        await reader.write(data)
        if len(reader.got) > 1 << 20:
            # From here on nothing is swift enough.
            monkeypatch.setattr(streams, "SWIFT", -1.0)

    await OutputPump(guest.read, write).run()
    assert max(guest.asked) == streams.READ
    assert guest.asked[-2:] == [streams.READ_LEAST] * 2


async def test_output_that_never_ends_holds_back_the_exit_by_its_amount_and_not_by_time():
    async def write(data: bytes) -> None:
        await anyio.lowlevel.checkpoint()

    pump = OutputPump(Endless(1 << 30).read, write)
    async with anyio.create_task_group() as group:
        group.start_soon(pump.run)
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(5):
            await pump.drained()
        assert not pump.is_done
        group.cancel_scope.cancel()


class Asked:
    """An agent that notes whose input is closed."""

    def __init__(self) -> None:
        self.closed: list[tuple[str, str]] = []

    async def close_stdin(self, container_id: str, exec_id: str) -> None:
        self.closed.append((container_id, exec_id))


@pytest.mark.parametrize(("terminal", "closed"), [(False, [("c1", "e1")]), (True, [])])
async def test_a_process_without_input_is_told_so_and_a_terminal_stays_open(terminal: bool, closed: list):
    agent = Asked()
    await pump_stdin(agent, "c1", "e1", FakeStdio(None), terminal)
    assert agent.closed == closed
