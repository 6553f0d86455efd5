"""CPUs and memory that the host has plugged in: set online, so that the kernel uses them (OnlineCPUMem)."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence

from guest.agent.errors import DeadlineError, FailedPreconditionError, InvalidArgumentError, failed
from guest.agent.log import log

#: What the agent says of itself (`AgentDetails.extra_features`) because of `most_cpus`.
OFFLINE_FEATURE = "cpu-offline"

_CPU = re.compile(r"cpu\d+")
_BLOCK = re.compile(r"memory\d+")
_POLL_SECONDS = 0.05
MAX_CPUS = 4096
MAX_PROBES = 4096


async def online(sys: str, cpus: int, wait: bool, cpu_only: bool, timeout: float) -> None:
    """Set CPUs and (unless `cpu_only`) memory blocks online.

    `cpus` is how many offline CPUs are to come online, 0 meaning all there are. A plugged CPU may show up late: the
    call waits for `timeout` seconds, and raises `DeadlineError` then if the host asked to `wait` for them.
    """
    wanted, done = min(cpus, MAX_CPUS), 0

    def more() -> int:
        nonlocal done
        done += online_cpus(sys, wanted - done)
        return done

    await _reach(wanted, more, wait, timeout)
    if not cpu_only:
        online_memory(sys)


async def online_all(sys: str, total: int, wait: bool, cpu_only: bool, timeout: float) -> None:
    """As `online`, for a host that says as Kata's (since 3.2) how many CPUs are to be online in `total`.

    All that are there come online, for older ones of Kata's mean the new ones alone.
    """

    def more() -> int:
        online_cpus(sys, 0)
        return count_online(sys)

    await _reach(min(total, MAX_CPUS), more, wait, timeout)
    if not cpu_only:
        online_memory(sys)


async def _reach(wanted: int, more: Callable[[], int], wait: bool, timeout: float) -> None:
    """Call `more`, which tells how many have come online, until there are enough."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while (done := more()) < wanted:
        if loop.time() >= deadline:
            if wait:
                raise DeadlineError(f"{done} of {wanted} CPUs came online within {timeout:g} s")
            log.warning("%d of %d CPUs came online", done, wanted)
            return
        await asyncio.sleep(_POLL_SECONDS)


def count_online(sys: str) -> int:
    """How many CPUs are online; one that can't go offline has no file that says so."""
    directory = f"{sys}/devices/system/cpu"
    return sum(_read(f"{directory}/{name}/online") != "0" for name in _entries(directory, _CPU))


def offline_cpus(sys: str, most: int) -> int:
    """Take CPUs offline, the last ones first, until at most `most` (and at least one) are online; returns how many.

    The host asks for that where it can't unplug them.
    """
    directory = f"{sys}/devices/system/cpu"
    # CPU 0 has no such file where it can't go offline, and is online then.
    names = [name for name in _entries(directory, _CPU) if _read(f"{directory}/{name}/online") != "0"]
    surplus = [name for name in names[max(1, most) :] if os.path.exists(f"{directory}/{name}/online")]
    return sum(_write(f"{directory}/{name}/online", "0") for name in reversed(surplus))


def online_cpus(sys: str, limit: int) -> int:
    """Set at most `limit` offline CPUs online, 0 meaning all; returns how many came."""
    directory = f"{sys}/devices/system/cpu"
    count = 0
    for name in _entries(directory, _CPU):
        if limit and count >= limit:
            break
        if _read(f"{directory}/{name}/online") == "0" and _write(f"{directory}/{name}/online", "1"):
            count += 1
    return count


def online_memory(sys: str) -> int:
    """Set all offline memory blocks online; returns how many came."""
    directory = f"{sys}/devices/system/memory"
    states = [f"{directory}/{name}/state" for name in _entries(directory, _BLOCK)]
    return sum(_write(state, "online") for state in states if _read(state) == "offline")


def probe_memory(sys: str, addresses: Sequence[int]) -> None:
    """Have the kernel look for memory at physical addresses, one memory block each (MemHotplugByProbe)."""
    probe = f"{sys}/devices/system/memory/probe"
    if len(addresses) > MAX_PROBES:
        raise InvalidArgumentError(f"{len(addresses)} memory addresses are too many")
    if not os.path.exists(probe):
        raise FailedPreconditionError("the guest's kernel learns of memory by ACPI, not by probing")
    for address in addresses:
        try:
            with open(probe, "w", encoding="ascii") as file:
                file.write(f"{address:#x}")
        except OSError as error:
            raise failed(f"probe memory at {address:#x}", error) from error


def memory_block_size(sys: str) -> int:
    """Bytes in a memory block, the unit of memory hot-plug; 0 if the kernel has none."""
    text = _read(f"{sys}/devices/system/memory/block_size_bytes")
    return int(text, 16) if re.fullmatch(r"[0-9a-f]+", text) else 0


def _entries(directory: str, pattern: re.Pattern[str]) -> list[str]:
    try:
        names = [name for name in os.listdir(directory) if pattern.fullmatch(name)]
    except OSError:
        return []
    return sorted(names, key=lambda name: (len(name), name))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(64).strip()
    except OSError:
        return ""


def _write(path: str, value: str) -> bool:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        log.warning("%s: %s", path, error.strerror)
        return False
    return True
