"""Starting a process through crun: its streams made, its end watched from before its pid is known."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from guest.agent.layout import Layout
from guest.agent.process import Pipes, Process, terminal_streams
from guest.agent.reaper import Reaper, Window
from guest.agent.spawn import NO_STDIO, Stdio
from guest.agent.terminal import ConsoleSocket

#: Runs crun with the standard streams or the console socket given; returns the pid of what it leaves behind.
StartByCrun = Callable[[Stdio, str | None], Awaitable[int]]


class Launcher:
    """Starts inits and execs. A start that fails leaves no descriptor, no socket and no process behind."""

    def __init__(self, layout: Layout, reaper: Reaper, pipe_size: int = 0) -> None:
        self._layout = layout
        self.reaper = reaper
        self._pipe_size = pipe_size

    async def launch(self, exec_id: str, process: dict[str, Any], start: StartByCrun) -> Process:
        """Start `process`, an OCI process object, with pipes or a terminal as it asks."""
        with self.reaper.window() as window:
            if process["terminal"]:
                return await self._with_terminal(exec_id, process, start, window)
            return await self._with_pipes(exec_id, start, window)

    async def _with_pipes(self, exec_id: str, start: StartByCrun, window: Window) -> Process:
        pipes = Pipes(self._pipe_size)
        try:
            pid = await start(pipes.child, None)
        except BaseException:
            pipes.streams.close()
            raise
        finally:
            pipes.close_child()
        return Process(exec_id, pid, pipes.streams, window.claim(pid))

    async def _with_terminal(
        self, exec_id: str, process: dict[str, Any], start: StartByCrun, window: Window
    ) -> Process:
        with ConsoleSocket(self._layout.consoles) as console:
            pid = await start(NO_STDIO, console.path)
            ended = window.claim(pid)
            try:
                master = await console.receive()
            except BaseException:
                if not ended.done():
                    os.kill(pid, signal.SIGKILL)
                raise
        result = Process(exec_id, pid, terminal_streams(master), ended)
        size = process.get("consoleSize")
        if size is not None:
            result.resize(size["height"], size["width"])
        return result
