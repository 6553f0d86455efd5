"""The agent's parts, put together once; what the RPCs act on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from guest.agent import modules
from guest.agent.cmdline import Options
from guest.agent.crun import CRUN, Crun
from guest.agent.devices.finder import DeviceFinder
from guest.agent.launch import Launcher
from guest.agent.layout import Layout
from guest.agent.log import Console
from guest.agent.manager import ContainerManager
from guest.agent.oom import OomWatch
from guest.agent.reaper import Reaper
from guest.agent.sandbox import Sandbox
from guest.agent.storage.context import DriverContext
from guest.agent.storage.table import StorageTable
from guest.agent.work import Work

if TYPE_CHECKING:
    from guest.agent.memory.schedule import MemoryAgent
    from guest.agent.policy.guard import Policy


class Agent:
    """Everything that lives as long as the machine; `close` lets go of it. Needs a running event loop."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        layout: Layout,
        options: Options,
        console: Console,
        crun: str = CRUN,
    ) -> None:
        self.layout = layout
        self.options = options
        self.console = console
        self.work = Work(group)
        self.reaper = Reaper()
        self.oom = OomWatch()
        self.devices = DeviceFinder(layout, self._load_module, options.hotplug_timeout)
        self.storages = StorageTable(DriverContext(layout, self.devices, self.reaper, self.work))
        launcher = Launcher(layout, self.reaper, options.pipe_size)
        runtime = Crun(layout, self.reaper, crun)
        self.containers = ContainerManager(layout, runtime, launcher, self.storages, self.devices, self.oom)
        self.sandbox = Sandbox(layout, self.reaper, self.storages, self.containers)
        #: What the host may do; None until it sets one, so that nobody else pays for it.
        self.policy: Policy | None = None
        self._memory: MemoryAgent | None = None
        #: How often GetMetrics was called.
        self.scrapes = 0
        #: Set when the machine is to end.
        self.stopping = asyncio.Event()

    def memory(self) -> MemoryAgent:
        """The memory agent, which most guests never ask for."""
        if self._memory is None:
            from guest.agent.memory.schedule import MemoryAgent

            self._memory = MemoryAgent(self.layout, self.reaper, self.work)
        return self._memory

    async def _load_module(self, name: str) -> None:
        await modules.load(name, (), self.reaper)

    def close(self) -> None:
        """Stop watching children and cgroups."""
        if self.policy is not None:
            self.policy.close()
        self.oom.close()
        self.reaper.stop()
