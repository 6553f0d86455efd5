"""Contract: the pool is full or being filled, gives each VM once, the oldest first, and keeps none that is not well."""

from __future__ import annotations

import itertools
import math
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from sandbox.cache.pool import Pool

pytestmark = pytest.mark.anyio
PATIENCE = 10.0


class FakeVm:
    """Runs until it is told to die; `trouble` is what a look at it finds."""

    def __init__(self, number: int) -> None:
        self.id = f"vm-{number}"
        self.pid = number
        self.trouble = ""
        self.looks = 0
        self.ends = 0
        self.dead = anyio.Event()

    async def ended(self) -> str:
        await self.dead.wait()
        return "it was killed"

    async def look(self) -> str:
        self.looks += 1
        await anyio.lowlevel.checkpoint()
        return self.trouble

    async def end(self) -> None:
        self.ends += 1
        self.dead.set()
        await anyio.lowlevel.checkpoint()


class Factory:
    """Makes VMs, as many at a time as it is asked to; can fail, and be held up."""

    def __init__(self) -> None:
        self.made: list[FakeVm] = []
        self.most = self.running = 0
        self.failures = 0
        self.gate: anyio.Event | None = None

    async def make(self) -> FakeVm:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await anyio.lowlevel.checkpoint()
            if self.gate is not None:
                await self.gate.wait()
            if self.failures:
                self.failures -= 1
                raise OSError("no memory")
        finally:
            self.running -= 1
        self.made.append(FakeVm(len(self.made) + 1))
        return self.made[-1]


async def until(condition) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.001)


@asynccontextmanager
async def running(number: int, factory: Factory, **settings):
    pool = Pool(number, factory.make, **{"pause": 0.001, "lull": 0.0, "look_every": math.inf, **settings})
    async with anyio.create_task_group() as group:
        group.start_soon(pool.run)
        yield pool
        group.cancel_scope.cancel()


async def test_it_fills_itself_a_bounded_number_at_a_time():
    factory = Factory()
    async with running(5, factory, makers=2) as pool:
        await until(lambda: len(pool.vms) == 5)
        assert factory.most == 2
        assert len(factory.made) == 5


async def test_as_many_clients_get_as_many_vms_the_oldest_first_and_it_fills_up_again():
    factory = Factory()
    async with running(3, factory, makers=1) as pool:
        await until(lambda: len(pool.vms) == 3)
        taken = [pool.take() for _ in range(4)]
        assert [vm and vm.id for vm in taken] == ["vm-1", "vm-2", "vm-3", None]
        await until(lambda: len(pool.vms) == 3)
        assert {vm.id for vm in pool.vms} == {"vm-4", "vm-5", "vm-6"}
    assert [vm.ends for vm in factory.made] == [0, 0, 0, 1, 1, 1]


async def test_no_vm_is_made_while_the_taker_of_one_starts():
    factory, now = Factory(), [0.0]
    async with running(1, factory, lull=0.01, clock=lambda: now[0]) as pool:
        await until(lambda: pool.vms)
        pool.take()
        await anyio.sleep(0.05)
        assert len(factory.made) == 1
        now[0] = 1.0
        await until(lambda: pool.vms)


async def test_an_empty_pool_answers_at_once():
    factory = Factory()
    factory.gate = anyio.Event()
    async with running(1, factory) as pool:
        assert pool.take() is None


async def test_a_vm_that_was_not_used_is_the_next_to_be_taken():
    factory = Factory()
    async with running(2, factory) as pool:
        await until(lambda: len(pool.vms) == 2)
        vm = pool.take()
        pool.put_back(vm)
        assert pool.take() is vm


async def test_a_vm_that_dies_while_it_waits_is_replaced():
    factory = Factory()
    async with running(2, factory) as pool:
        await until(lambda: len(pool.vms) == 2)
        factory.made[0].dead.set()
        await until(lambda: len(factory.made) == 3 and len(pool.vms) == 2)
        assert factory.made[0] not in pool.vms
        assert factory.made[0].ends == 1


async def test_a_vm_that_dies_once_it_is_taken_is_its_takers_business():
    factory = Factory()
    async with running(1, factory) as pool:
        await until(lambda: pool.vms)
        vm = pool.take()
        vm.dead.set()
        await until(lambda: pool.vms)
    assert vm.ends == 0


@pytest.mark.parametrize(("trouble", "max_age"), [("its agent is silent", math.inf), ("", 0.0)])
async def test_a_vm_that_is_not_well_or_too_old_is_replaced(trouble: str, max_age: float):
    factory = Factory()
    clock = itertools.count(step=0.5)
    async with running(1, factory, look_every=0.01, max_age=max_age, clock=lambda: next(clock)) as pool:
        await until(lambda: pool.vms)
        first = factory.made[0]
        first.trouble = trouble
        await until(lambda: len(factory.made) > 1)
        assert first.ends == 1
        assert first not in pool.vms


async def test_a_vm_that_is_well_stays_however_often_it_is_looked_at():
    factory = Factory()
    async with running(2, factory, look_every=0.001):
        await until(lambda: len(factory.made) == 2 and all(vm.looks > 2 for vm in factory.made))
        assert not any(vm.ends for vm in factory.made)
    assert len(factory.made) == 2


async def test_a_vm_that_can_not_be_made_is_tried_again(caplog):
    factory = Factory()
    factory.failures = 3
    async with running(1, factory, makers=1) as pool:
        await until(lambda: pool.vms)
    assert caplog.text.count("no VM for the cache: no memory") == 3


async def test_a_drained_pool_gives_nothing_makes_nothing_and_has_nothing():
    factory = Factory()
    async with running(2, factory) as pool:
        await until(lambda: len(pool.vms) == 2)
        factory.gate = anyio.Event()
        pool.take()
        await until(lambda: factory.running)
        await pool.drain()
        factory.gate.set()
        await until(lambda: not factory.running)
        assert pool.take() is None
        assert pool.vms == []
        await until(lambda: [vm.ends for vm in factory.made] == [0, 1, 1])
