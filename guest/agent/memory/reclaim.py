"""One turn of reclaiming: every container's pages aged, and what has not been used for long evicted."""

from __future__ import annotations

import asyncio

from guest.agent.log import log
from guest.agent.memory import lru
from guest.agent.memory.pressure import Pressure
from guest.agent.memory.settings import ReclaimSettings

#: The cgroup that holds those of all containers.
CONTAINERS = "/kata"

_Key = tuple[int, int]


class Reclaim:
    """Knows, from turn to turn, how often each cgroup was aged and how hard its processes were pressed."""

    def __init__(self, settings: ReclaimSettings, kernel_lru: lru.Lru, cgroup: str) -> None:
        self._settings = settings
        self._lru = kernel_lru
        self._cgroup = cgroup
        self._aged: dict[_Key, int] = {}
        self._pressures: dict[str, Pressure] = {}

    async def turn(self) -> int:
        """Do it once; the number of pages in the generations that were evicted. Raises `OSError`."""
        nodes = self._lru.nodes(CONTAINERS)
        self._forget_others(nodes)
        evicted = 0
        for node in nodes:
            if self._pressure(node.path) > self._settings.period_psi_percent_limit:
                continue
            self._age(node)
            # Aging is a scan in the kernel; others of the agent get their turn in between.
            await asyncio.sleep(0)
        for node in self._lru.nodes(CONTAINERS):
            if self._aged.get(_key(node), 0) >= max(1, self._settings.eviction_run_aging_count_min):
                evicted += await self._evict(node)
        return evicted

    def _age(self, node: lru.Node) -> None:
        self._lru.run(lru.aging(node, self._settings.swap))
        self._aged[_key(node)] = self._aged.get(_key(node), 0) + 1

    async def _evict(self, node: lru.Node) -> int:
        """Evict the oldest generations, one after the other, while nobody has to wait for it."""
        evicted = 0
        pressure = Pressure(f"{self._cgroup}{node.path}/memory.pressure")
        while lru.is_evictable(node) and pressure.percent() <= self._settings.eviction_psi_percent_limit:
            before = node.oldest
            evicted += node.oldest_pages[1] + (node.oldest_pages[0] if self._settings.swap else 0)
            self._lru.run(lru.eviction(node, self._settings.swappiness_max if self._settings.swap else 0))
            await asyncio.sleep(0)
            again = [one for one in self._lru.nodes(CONTAINERS) if _key(one) == _key(node)]
            if not again or again[0].oldest == before:
                break
            node = again[0]
        self._aged[_key(node)] = 0
        if evicted:
            log.info("memory: %d pages of %s evicted", evicted, node.path)
        return evicted

    def _pressure(self, path: str) -> float:
        if path not in self._pressures:
            self._pressures[path] = Pressure(f"{self._cgroup}{path}/memory.pressure")
        return self._pressures[path].percent()

    def _forget_others(self, nodes: list[lru.Node]) -> None:
        keys, paths = {_key(node) for node in nodes}, {node.path for node in nodes}
        self._aged = {key: count for key, count in self._aged.items() if key in keys}
        self._pressures = {path: pressure for path, pressure in self._pressures.items() if path in paths}


def _key(node: lru.Node) -> _Key:
    return node.memcg, node.node
