"""Reaps the processes that the daemon adopts as a subreaper: what its helpers leave behind when they die.

Each child that somebody waits for is reaped by whoever started it, as soon as its pidfd says so. A zombie that is
still one after a whole period has no owner.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import anyio

#: Seconds that a zombie is left to its owner.
PERIOD = 30.0

_log = logging.getLogger(__name__)


async def reap_orphans(period: float = PERIOD) -> None:
    """Reap ownerless zombies until cancelled."""
    seen: set[int] = set()
    while True:
        await anyio.sleep(period)
        zombies = zombie_children()
        for pid in zombies & seen:
            _reap(pid)
        seen = zombies


def zombie_children() -> set[int]:
    """Pids of this process' children that have ended and were not waited for."""
    return {pid for pid in _children() if _is_zombie(pid)}


def _children() -> list[int]:
    pids: list[int] = []
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            pids += map(int, listing.read_text().split())
        except OSError:
            continue
    return pids


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] == b"Z"


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
    _log.debug("reaped orphan %d", pid)
