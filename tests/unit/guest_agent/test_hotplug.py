"""CPUs and memory come online, in time or not at all."""

from __future__ import annotations

import asyncio

import pytest

from guest.agent import hotplug
from guest.agent.errors import DeadlineError

pytestmark = pytest.mark.anyio


@pytest.fixture
def sys(tmp_path):
    cpus = tmp_path / "devices/system/cpu"
    for number, online in ((1, "1"), (2, "0"), (3, "0"), (10, "0")):
        (cpus / f"cpu{number}").mkdir(parents=True)
        (cpus / f"cpu{number}/online").write_text(online)
    (cpus / "cpuidle").mkdir()
    for number, state in ((0, "online"), (1, "offline")):
        (tmp_path / f"devices/system/memory/memory{number}").mkdir(parents=True)
        (tmp_path / f"devices/system/memory/memory{number}/state").write_text(state)
    return tmp_path


def state(sys, kind, number):
    name = {"cpu": "online", "memory": "state"}[kind]
    return (sys / f"devices/system/{kind}/{kind}{number}/{name}").read_text()


async def test_as_many_cpus_as_wanted_come_online_lowest_first(sys):
    await hotplug.online(str(sys), 2, True, True, 1)

    assert [state(sys, "cpu", number) for number in (2, 3, 10)] == ["1", "1", "0"]
    assert state(sys, "memory", 1) == "offline"


async def test_without_a_number_all_come_online_and_memory_too(sys):
    await hotplug.online(str(sys), 0, False, False, 1)

    assert [state(sys, "cpu", number) for number in (2, 3, 10)] == ["1", "1", "1"]
    assert state(sys, "memory", 1) == "online"


async def test_cpus_that_never_come_are_an_error_if_waited_for(sys):
    with pytest.raises(DeadlineError, match="3 of 9"):
        await hotplug.online(str(sys), 9, True, True, 0.01)


async def test_cpus_that_never_come_are_no_error_otherwise(sys):
    await hotplug.online(str(sys), 9, False, True, 0.01)


async def test_a_cpu_that_comes_late_is_waited_for(sys):
    task = asyncio.create_task(hotplug.online(str(sys), 4, True, True, 20))
    await asyncio.sleep(0)
    assert not task.done()

    (sys / "devices/system/cpu/cpu11").mkdir()
    (sys / "devices/system/cpu/cpu11/online").write_text("0")

    await asyncio.wait_for(task, 20)
    assert state(sys, "cpu", 11) == "1"


async def test_kata_s_host_says_how_many_cpus_there_are_to_be(sys):
    await hotplug.online_all(str(sys), 4, True, False, 0.01)

    assert [state(sys, "cpu", number) for number in (2, 3, 10)] == ["1", "1", "1"]
    assert state(sys, "memory", 1) == "online"
    with pytest.raises(DeadlineError, match="4 of 5"):
        await hotplug.online_all(str(sys), 5, True, True, 0.01)


async def test_an_older_host_of_kata_s_says_how_many_come(sys):
    await hotplug.online_all(str(sys), 3, True, True, 0.01)

    assert [state(sys, "cpu", number) for number in (2, 3, 10)] == ["1", "1", "1"]


def test_the_size_of_a_memory_block_is_hexadecimal(sys):
    assert hotplug.memory_block_size(str(sys)) == 0
    (sys / "devices/system/memory/block_size_bytes").write_text("8000000\n")

    assert hotplug.memory_block_size(str(sys)) == 128 << 20


async def test_surplus_cpus_go_offline_from_the_last_on_and_the_first_stays(sys):
    (sys / "devices/system/cpu/cpu0").mkdir()
    for number in (2, 3):
        (sys / f"devices/system/cpu/cpu{number}/online").write_text("1")

    assert hotplug.offline_cpus(str(sys), 2) == 2
    assert [state(sys, "cpu", number) for number in (1, 2, 3)] == ["1", "0", "0"]
    assert hotplug.offline_cpus(str(sys), 2) == 0
    assert hotplug.offline_cpus(str(sys), 0) == 1
    assert state(sys, "cpu", 1) == "0"
