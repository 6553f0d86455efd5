"""Deadlines of many calls on one timer."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.unit.ttrpc.support import until
from ttrpc.alarm import Alarm

pytestmark = pytest.mark.anyio


class Item:
    """Notes when it expires; may stop another item then."""

    def __init__(self, log: list[Item], alarm: Alarm | None = None, victim: Item | None = None) -> None:
        self.log = log
        self.alarm = alarm
        self.victim = victim

    def expire(self) -> None:
        self.log.append(self)
        if self.alarm is not None and self.victim is not None:
            self.alarm.stop(self.victim)


async def test_items_expire_in_order_and_not_before_their_time() -> None:
    alarm = Alarm(asyncio.get_running_loop())
    log: list[Item] = []
    start = time.monotonic()
    items = [Item(log) for _ in range(3)]

    for item, delay in zip(items, (0.06, 0.02, 0.04), strict=True):
        alarm.start(item, start + delay)
    await until(lambda: len(log) == 3)

    assert log == [items[1], items[2], items[0]]
    assert time.monotonic() - start >= 0.06


async def test_a_stopped_item_does_not_expire() -> None:
    alarm = Alarm(asyncio.get_running_loop())
    log: list[Item] = []
    stopped, live = Item(log), Item(log)
    alarm.start(stopped, time.monotonic() + 0.01)
    alarm.start(live, time.monotonic() + 0.03)

    alarm.stop(stopped)
    alarm.stop(stopped)
    await until(lambda: bool(log))

    assert log == [live]


async def test_an_item_may_stop_another_as_it_expires() -> None:
    alarm = Alarm(asyncio.get_running_loop())
    log: list[Item] = []
    victim = Item(log)
    killer = Item(log, alarm, victim)
    last = Item(log)
    alarm.start(killer, time.monotonic() - 1)
    alarm.start(victim, time.monotonic() - 1)
    alarm.start(last, time.monotonic() + 0.02)

    await until(lambda: last in log)

    assert log == [killer, last]


async def test_nothing_expires_after_clear() -> None:
    loop = asyncio.get_running_loop()
    alarm = Alarm(loop)
    log: list[Item] = []
    alarm.clear()
    alarm.start(Item(log), time.monotonic() + 0.01)

    alarm.clear()
    passed = loop.create_future()
    loop.call_later(0.05, passed.set_result, None)
    await passed

    assert log == []


async def test_a_deadline_centuries_away_is_fine() -> None:
    alarm = Alarm(asyncio.get_running_loop())

    alarm.start(Item([]), time.monotonic() + 9.2e9)

    alarm.clear()
