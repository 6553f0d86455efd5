"""What drivers have at hand, and how they do what takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guest.agent.devices.finder import DeviceFinder
    from guest.agent.layout import Layout
    from guest.agent.reaper import Reaper
    from guest.agent.work import Work
    from protos.lean.gen.grpc import Storage

#: Takes an attached storage away again; raises `OSError` or `RpcError` if that can't be done.
Undo = Callable[[], Awaitable[None]]


class DriverContext:
    """The agent's parts that drivers use."""

    __slots__ = ("devices", "layout", "reaper", "work")

    def __init__(self, layout: Layout, devices: DeviceFinder, reaper: Reaper, work: Work) -> None:
        self.layout = layout
        self.devices = devices
        self.reaper = reaper
        self.work = work


#: Makes a storage available at its mount point (a checked path) and returns how to undo that; raises `RpcError`.
Attach = Callable[["Storage", str, DriverContext], Awaitable[Undo]]


def blocking(undo: Callable[[], None]) -> Undo:
    """An undoing that may take long (a disk to be written to, a tree to be removed): done beside the event loop."""

    async def run() -> None:
        await asyncio.to_thread(undo)

    return run


def quick(undo: Callable[[], None]) -> Undo:
    """An undoing that takes no time."""

    async def run() -> None:
        undo()

    return run


def in_turn(*undos: Undo) -> Undo:
    """All undoings, one after the other; if some fail, the last one's error is raised after all were tried."""

    async def run() -> None:
        failure: Exception | None = None
        for undo in undos:
            try:
                await undo()
            except Exception as error:  # noqa: BLE001 - the others must be undone whatever this was
                failure = error
        if failure is not None:
            raise failure

    return run
