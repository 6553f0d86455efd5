"""When the jobs have their turn: each every period, from the setting that enables it to the one that disables it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from guest.agent.errors import RpcError
from guest.agent.layout import Layout
from guest.agent.log import log
from guest.agent.memory.compaction import Compaction
from guest.agent.memory.lru import Lru
from guest.agent.memory.reclaim import Reclaim
from guest.agent.memory.settings import CompactionSettings, ReclaimSettings, Settings
from guest.agent.reaper import Reaper
from guest.agent.work import Work

if TYPE_CHECKING:
    from protos.lean.gen.grpc import MemAgentCompactConfig, MemAgentMemcgConfig


class Job:
    """Something to be done every `period_secs` while it is not disabled. What fails is logged, and tried again."""

    def __init__(self, name: str, settings: Settings, turn: Callable[[], Awaitable[object]], work: Work) -> None:
        self._name = name
        self._settings = settings
        self._turn = turn
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def reschedule(self) -> None:
        """The settings have changed: a period begins now, or there is none any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if not self._settings.disabled:
            self._task = self._work.background(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._settings.period_secs)
            try:
                await self._turn()
            except (OSError, RpcError, ValueError) as error:
                log.warning("memory: %s: %s", self._name, error)


class MemoryAgent:
    """Both jobs with their settings."""

    def __init__(self, layout: Layout, reaper: Reaper, work: Work) -> None:
        self._lru = Lru(layout.sys)
        self.reclaim = ReclaimSettings()
        self.compaction = CompactionSettings()
        self._reclaim = Job("reclaim", self.reclaim, Reclaim(self.reclaim, self._lru, layout.cgroup).turn, work)
        turn = Compaction(self.compaction, reaper, layout.proc).turn
        self._compaction = Job("compaction", self.compaction, turn, work)

    def set_reclaim(self, message: MemAgentMemcgConfig) -> None:
        """Change what `message` names; raises `RpcError`, and then nothing was changed."""
        values = self.reclaim.changed(message)
        if values.get("disabled") is False:
            self._lru.enable()
        self.reclaim.update(values)
        self._reclaim.reschedule()

    def set_compaction(self, message: MemAgentCompactConfig) -> None:
        """Change what `message` names; raises `RpcError`, and then nothing was changed."""
        self.compaction.update(self.compaction.changed(message))
        self._compaction.reschedule()
