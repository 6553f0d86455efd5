"""The queue of a stream: order, ends, and what happens when nobody reads."""

from __future__ import annotations

import asyncio

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError

from tests.unit.ttrpc.support import PATIENCE, until
from ttrpc import inbox as inbox_module
from ttrpc.connection import Connection
from ttrpc.inbox import BYTES_MAX, MESSAGES_MAX, Inbox

pytestmark = pytest.mark.anyio

GONE = GRPCError(Status.NOT_FOUND, "gone")


class Transport(asyncio.Transport):
    """Notes whether it may read."""

    reading = True

    def write(self, data: object) -> None:
        raise AssertionError("nothing is written here")

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


@pytest.fixture
def transport() -> Transport:
    return Transport()


async def make(transport: Transport) -> Inbox:
    connection = Connection()
    connection.connection_made(transport)
    return Inbox(connection)


async def get_error(inbox: Inbox) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await inbox.get()
    return caught.value


async def test_messages_come_in_order_and_then_the_end(transport: Transport) -> None:
    inbox = await make(transport)
    for payload in (b"a", b"", b"c"):
        inbox.put(payload)
    inbox.end()
    inbox.put(b"too late")

    assert [await inbox.get() for _ in range(5)] == [b"a", b"", b"c", None, None]
    assert inbox.ended


async def test_an_error_comes_after_the_messages_and_each_time(transport: Transport) -> None:
    inbox = await make(transport)
    inbox.put(b"a")
    inbox.end(GONE)
    inbox.end()

    assert await inbox.get() == b"a"
    assert [await get_error(inbox), await get_error(inbox), inbox.error] == [GONE, GONE, GONE]


async def test_failing_drops_the_messages(transport: Transport) -> None:
    inbox = await make(transport)
    inbox.put(b"a")
    inbox.end()

    inbox.fail(GONE)

    assert await get_error(inbox) is GONE


async def test_failing_does_not_change_an_end_that_has_been_reached(transport: Transport) -> None:
    inbox = await make(transport)
    inbox.end()

    inbox.fail(GONE)

    assert await inbox.get() is None


@pytest.mark.parametrize("end", [lambda inbox: inbox.put(b"x"), lambda inbox: inbox.end()])
async def test_a_waiting_reader_is_woken(transport: Transport, end: object) -> None:
    inbox = await make(transport)
    async with asyncio.TaskGroup() as group, asyncio.timeout(PATIENCE):
        reader = group.create_task(inbox.get())
        await until(lambda: inbox._waiter is not None)
        end(inbox)  # type: ignore[operator]
        end(inbox)  # type: ignore[operator]

    assert reader.result() in (b"x", None)


async def test_a_cancelled_reader_loses_no_message(transport: Transport) -> None:
    inbox = await make(transport)
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(inbox.get())
        await until(lambda: inbox._waiter is not None)
        inbox.put(b"kept")
        reader.cancel()

    assert reader.cancelled()
    assert await inbox.get() == b"kept"


async def test_a_second_reader_is_an_error(transport: Transport) -> None:
    inbox = await make(transport)
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(inbox.get())
        await until(lambda: inbox._waiter is not None)
        with pytest.raises(ProtocolError, match="another task is receiving"):
            await inbox.get()
        reader.cancel()


@pytest.mark.parametrize(("size", "count"), [(1, MESSAGES_MAX), (BYTES_MAX // 2, 2)])
async def test_a_full_inbox_holds_back_its_connection_until_it_has_room(
    transport: Transport, size: int, count: int
) -> None:
    inbox = await make(transport)
    for _ in range(count - 1):
        inbox.put(bytes(size))
        assert transport.reading
    for _ in range(3):
        inbox.put(bytes(size))
        assert not transport.reading

    reads = 0
    while not transport.reading:
        assert await inbox.get() == bytes(size)
        reads += 1

    assert reads == (3 if size > 1 else MESSAGES_MAX // 2 + 2)


async def test_the_connection_goes_on_when_every_full_inbox_has_room(transport: Transport) -> None:
    first = await make(transport)
    second = Inbox(first._connection)
    for inbox in (first, second):
        inbox.put(bytes(BYTES_MAX))

    await first.get()
    assert not transport.reading
    await second.get()
    assert transport.reading


async def test_a_full_inbox_that_ends_lets_its_connection_go_on(transport: Transport) -> None:
    inbox = await make(transport)
    inbox.put(bytes(BYTES_MAX))

    inbox.end()

    assert transport.reading
    assert await inbox.get() == bytes(BYTES_MAX)


async def test_an_inbox_that_stays_full_is_given_up(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "FULL_SECONDS", 0.02)
    inbox = await make(transport)
    inbox.put(bytes(BYTES_MAX))

    await until(lambda: transport.reading)

    error = await get_error(inbox)
    assert (error.status, error.message) == (Status.RESOURCE_EXHAUSTED, "stream buffer full")
    inbox.put(b"dropped")
    assert await get_error(inbox) is error
