"""One turn of compaction: whether free memory is in pieces enough, and the kernel's work, watched over."""

from __future__ import annotations

import asyncio
import os
import signal

from guest.agent import spawn
from guest.agent.log import log
from guest.agent.memory.pressure import Pressure
from guest.agent.memory.settings import NEVER, CompactionSettings
from guest.agent.reaper import Reaper

#: Writing to the file takes as long as the compaction, so a process of its own does it, which can be killed.
SHELL = ("/bin/sh", "-c", "echo 1 > /proc/sys/vm/compact_memory")
WATCH_SECONDS = 1.0
_KIB_PER_PAGE = 4


class Compaction:
    """Knows, from turn to turn, how free memory was after the last compaction."""

    def __init__(self, settings: CompactionSettings, reaper: Reaper, proc: str = "/proc") -> None:
        self._settings = settings
        self._reaper = reaper
        self._proc = proc
        self._pressure = Pressure(f"{proc}/pressure/memory")
        self._skipped = 0
        self._pieces = 0
        self._free_kib = 0

    async def turn(self) -> bool:
        """Do it once; whether memory was compacted. Raises `OSError` and `RpcError`."""
        calm = self._pressure.percent() <= self._settings.period_psi_percent_limit
        if not calm or not self._is_due():
            self._skipped += 1
            return False
        await self._compact()
        self._skipped = 0
        self._pieces, self._free_kib = self._measured()
        return True

    def _is_due(self) -> bool:
        if self._skipped >= self._settings.compact_force_times != NEVER:
            return True
        pieces, free_kib = self._measured()
        threshold = self._settings.compact_threshold
        return pieces > self._pieces + threshold or self._free_kib > free_kib + threshold * _KIB_PER_PAGE

    def _measured(self) -> tuple[int, int]:
        with open(f"{self._proc}/pagetypeinfo", encoding="ascii", errors="replace") as file:
            pieces = movable_pieces(file.read(1 << 20), self._settings.compact_order)
        with open(f"{self._proc}/meminfo", encoding="ascii", errors="replace") as file:
            return pieces, free_kib(file.read(1 << 16))

    async def _compact(self) -> None:
        """Start it, and end it when it takes too long or presses too hard."""
        pressure = Pressure(f"{self._proc}/pressure/memory")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.compact_sec_max
        pid = spawn.start(SHELL)
        ended = self._reaper.watch(pid)
        try:
            while not ended.done() and loop.time() < deadline:
                await asyncio.wait([ended], timeout=WATCH_SECONDS)
                if pressure.percent() > self._settings.compact_psi_percent_limit:
                    break
        finally:
            if not ended.done():
                os.kill(pid, signal.SIGKILL)
        log.info("memory: compaction %s", "done" if ended.done() else "given up")


def movable_pieces(text: str, order: int) -> int:
    """Free movable pages in blocks of less than 2 to the power of `order`, from /proc/pagetypeinfo."""
    total = 0
    for line in text.splitlines():
        words = line.replace(",", " ").split()
        if words[:1] == ["Node"] and "type" in words and "Movable" in words:
            # A count that the kernel gave up on is written `>100000`.
            counts = [word.lstrip(">") for word in words[words.index("Movable") + 1 :][:order]]
            total += sum(int(count) << power for power, count in enumerate(counts) if count.isdigit())
    return total


def free_kib(text: str) -> int:
    """MemFree in /proc/meminfo."""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["MemFree:"] and len(words) > 1 and words[1].isdigit():
            return int(words[1])
    return 0
