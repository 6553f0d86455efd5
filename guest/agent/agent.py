"""The agent's parts, put together once; what the RPCs act on."""

from __future__ import annotations

import asyncio

from guest.agent.cmdline import Options
from guest.agent.crun import CRUN, Crun
from guest.agent.launch import Launcher
from guest.agent.layout import Layout
from guest.agent.log import Console
from guest.agent.manager import ContainerManager
from guest.agent.oom import OomWatch
from guest.agent.reaper import Reaper
from guest.agent.sandbox import Sandbox
from guest.agent.storage.table import StorageTable
from guest.agent.work import Work


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
        self.storages = StorageTable(layout)
        launcher = Launcher(layout, self.reaper, options.pipe_size)
        self.containers = ContainerManager(layout, Crun(layout, self.reaper, crun), launcher, self.storages, self.oom)
        self.sandbox = Sandbox(layout, self.reaper, self.storages, self.containers)
        #: Set when the machine is to end.
        self.stopping = asyncio.Event()

    def close(self) -> None:
        """Stop watching children and cgroups."""
        self.oom.close()
        self.reaper.stop()
