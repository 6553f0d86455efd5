"""Streams: everything arrives, nothing is buffered without bound, nobody waits for ever."""

from __future__ import annotations

import asyncio
import os

import pytest

from guest.agent.errors import FailedPreconditionError, InvalidArgumentError
from guest.agent.process import Pipes
from guest.agent.streams import BURST, MAX_READ, InputStream, OutputStream
from protos.codec import decode
from protos.lean.gen.grpc import ReadStreamResponse
from tests.unit.guest_agent.replies import body
from ttrpc.piped import PipedMessage

pytestmark = pytest.mark.anyio


def pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, 10)


async def test_what_is_there_is_read_at_once_up_to_the_limit():
    reader, writer = pipe()
    stream = OutputStream(reader)
    os.write(writer, b"abcdef")

    assert [await soon(stream.read(4)), await soon(stream.read(4))] == [b"abcd", b"ef"]
    stream.close()
    os.close(writer)


async def test_a_read_waits_for_data():
    reader, writer = pipe()
    stream = OutputStream(reader)
    task = asyncio.create_task(stream.read(10))
    await asyncio.sleep(0)

    os.write(writer, b"late")

    assert await soon(task) == b"late"
    stream.close()
    os.close(writer)


async def test_when_all_writers_have_closed_the_stream_ends_for_good():
    reader, writer = pipe()
    stream = OutputStream(reader)
    os.write(writer, b"last")
    os.close(writer)

    assert [await soon(stream.read(10)) for _ in range(3)] == [b"last", b"", b""]
    assert stream.closed


async def test_a_pipe_held_by_a_descendant_counts_as_ended_when_quiet_after_the_exit():
    reader, writer = pipe()
    stream = OutputStream(reader, quiet_seconds=0.01)
    stream.writer_exited()

    assert await soon(stream.read(10)) == b""
    assert not stream.closed
    stream.close()
    os.close(writer)


async def test_a_reader_that_waits_when_the_process_exits_gets_the_end_too():
    reader, writer = pipe()
    stream = OutputStream(reader, quiet_seconds=0.01)
    task = asyncio.create_task(stream.read(10))
    await asyncio.sleep(0)

    stream.writer_exited()

    assert await soon(task) == b""
    stream.close()
    os.close(writer)


async def test_what_a_descendant_writes_after_that_is_still_delivered():
    reader, writer = pipe()
    stream = OutputStream(reader, quiet_seconds=0.01)
    stream.writer_exited()
    await soon(stream.read(10))

    os.write(writer, b"later")

    assert await soon(stream.read(10)) == b"later"
    stream.close()
    os.close(writer)


async def test_data_left_in_the_pipe_outlives_the_process():
    reader, writer = pipe()
    stream = OutputStream(reader, quiet_seconds=0)
    os.write(writer, b"x" * 60000)
    stream.writer_exited()

    total = b""
    while len(total) < 60000:
        total += await soon(stream.read(7000))

    assert total == b"x" * 60000
    stream.close()
    os.close(writer)


async def test_closing_releases_who_reads():
    reader, writer = pipe()
    stream = OutputStream(reader)
    task = asyncio.create_task(stream.read(10))
    await asyncio.sleep(0)

    stream.close()

    assert await soon(task) == b""
    os.close(writer)


async def test_a_cancelled_read_takes_no_data():
    reader, writer = pipe()
    stream = OutputStream(reader)
    task = asyncio.create_task(stream.read(10))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    os.write(writer, b"kept")

    assert await soon(stream.read(10)) == b"kept"
    stream.close()
    os.close(writer)


async def test_a_write_larger_than_the_pipe_waits_for_the_reader():
    reader, writer = pipe()
    stream = InputStream(writer)
    data = os.urandom(1 << 20)
    task = asyncio.create_task(stream.write(data))
    await asyncio.sleep(0)
    assert not task.done()

    output, received = OutputStream(reader), b""
    while len(received) < len(data):
        received += body(await soon(output.read(1 << 16)))

    assert await soon(task) == len(data)
    assert received == data
    output.close()
    stream.close()


async def test_writing_to_a_process_that_is_gone_is_refused():
    reader, writer = pipe()
    stream = InputStream(writer)
    os.close(reader)

    with pytest.raises(FailedPreconditionError, match="closed"):
        await soon(stream.write(b"x"))


async def test_closing_releases_who_writes():
    reader, writer = pipe()
    stream = InputStream(writer)
    task = asyncio.create_task(stream.write(bytes(1 << 20)))
    await asyncio.sleep(0)

    stream.close()

    with pytest.raises(FailedPreconditionError):
        await soon(task)
    os.close(reader)


async def test_the_end_of_input_closes_a_pipe_but_not_a_terminal():
    reader, writer = pipe()
    InputStream(writer).end()
    assert os.read(reader, 1) == b""
    os.close(reader)

    reader, writer = pipe()
    stream = InputStream(writer, keep_open=True)
    stream.end()
    assert await soon(stream.write(b"x")) == 1
    stream.close()
    os.close(reader)


async def test_output_that_did_not_arrive_is_given_again_to_a_host_that_says_where_it_stands():
    reader, writer = pipe()
    stream = OutputStream(reader)
    os.write(writer, b"abcdef")
    assert await soon(stream.read(4, 0)) == b"abcd"

    again = [await soon(stream.read(4, 0)), await soon(stream.read(1, 1)), await soon(stream.read(4, 2))]

    assert again == [b"abcd", b"b", b"cd"]
    assert await soon(stream.read(4, 4)) == b"ef"
    os.close(writer)
    assert [await soon(stream.read(4, 6)) for _ in range(2)] == [b"", b""]


async def test_what_was_given_is_kept_past_the_end_until_the_host_asks_for_more():
    reader, writer = pipe()
    stream = OutputStream(reader)
    os.write(writer, b"last")
    os.close(writer)
    await soon(stream.read(4, 0))

    assert await soon(stream.read(4, 0)) == b"last"
    assert await soon(stream.read(4, 4)) == b""


@pytest.mark.parametrize("position", [5, 1 << 63])
async def test_a_position_that_can_not_be_is_refused(position):
    reader, writer = pipe()
    stream, stdin = OutputStream(reader), InputStream(writer)
    await soon(stdin.write(b"abcd", 0))
    await soon(stream.read(2, 0))
    await soon(stream.read(2, 2))

    for call in (stream.read(4, position), stream.read(4, 1), stdin.write(b"x", position), stdin.write(b"x", 2)):
        with pytest.raises(InvalidArgumentError, match="position"):
            await soon(call)
    stdin.close()
    stream.close()


async def test_input_that_comes_twice_is_taken_once():
    reader, writer = pipe()
    stdin = InputStream(writer)
    for position, data in ((0, b"abcd"), (0, b"abcd"), (2, b"cdef"), (6, b"g")):
        assert await soon(stdin.write(data, position)) == len(data)
    stdin.close()

    assert os.read(reader, 100) == b"abcdefg"
    os.close(reader)


async def test_a_write_that_was_cut_off_half_way_goes_on_there():
    reader, writer = pipe()
    stdin = InputStream(writer)
    data = os.urandom(300_000)
    cut = asyncio.create_task(stdin.write(data, 0))
    await asyncio.sleep(0)
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut

    again = asyncio.create_task(stdin.write(data, 0))
    os.set_blocking(reader, True)
    received = b""
    while len(received) < len(data):
        received += await soon(asyncio.to_thread(os.read, reader, 1 << 16))

    assert await soon(again) == len(data)
    assert received == data
    stdin.close()
    os.close(reader)


@pytest.fixture
def burst():
    """An output whose pipe is full of random bytes: the stream, the bytes, and the writing end."""
    pipes = Pipes()
    os.set_blocking(pipes.child[1], False)
    data = os.urandom(MAX_READ)
    assert os.write(pipes.child[1], data) == len(data)
    yield pipes.streams.stdout, data, pipes.child[1]
    pipes.streams.close()
    pipes.close_child()


async def test_much_output_is_answered_out_of_its_pipe_as_a_proper_response(burst):
    stream, data, _ = burst

    reply = await soon(stream.read(MAX_READ, 0))

    assert isinstance(reply, PipedMessage)
    assert decode(ReadStreamResponse, reply.head + reply.read()).data == data
    reply.close()


@pytest.mark.parametrize("limit", [BURST, BURST + 1, 100_000, 1 << 30])
async def test_much_output_comes_whole_and_in_order_whatever_is_asked_for(burst, limit: int):
    stream, data, writer = burst
    received = b""

    while len(received) < len(data):
        piece = body(await soon(stream.read(limit, len(received))))
        assert 0 < len(piece) <= limit
        received += piece

    assert received == data
    os.write(writer, b"more")
    assert await soon(stream.read(10, len(data))) == b"more"


async def test_much_output_that_did_not_arrive_is_given_again_whole_or_in_part(burst):
    stream, data, _ = burst
    lost = await soon(stream.read(MAX_READ, 0))
    lost.close()

    again = body(await soon(stream.read(MAX_READ, 0)))
    rest = body(await soon(stream.read(1000, 700_000)))

    assert (again, rest) == (data, data[700_000:701_000])


async def test_a_stream_that_is_given_up_holds_no_descriptor(burst):
    stream, _, _ = burst
    before = len(os.listdir("/proc/self/fd"))
    (await soon(stream.read(MAX_READ, 0))).close()
    assert len(os.listdir("/proc/self/fd")) == before + 1

    stream.close()

    assert len(os.listdir("/proc/self/fd")) == before - 1


async def test_output_is_answered_from_memory_where_no_pipe_is_to_be_had(burst, monkeypatch):
    stream, data, _ = burst

    def no_more(flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("guest.agent.kept.os.pipe2", no_more)

    assert await soon(stream.read(MAX_READ, 0)) == data
