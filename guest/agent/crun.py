"""The OCI runtime: crun's commands, each run to its end with a deadline, its errors turned into ours.

crun is the parent of containers only while it creates them; what it leaves behind becomes the agent's child. Its own
messages go to a log file per call, because its standard error is the container's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from guest.agent.crun_errors import LOG_LIMIT, error_for, last_error
from guest.agent.errors import InternalError
from guest.agent.layout import Layout
from guest.agent.reaper import Reaper
from guest.agent.spawn import NO_STDIO, Stdio, run

CRUN = "/usr/bin/crun"
#: Kata's own deadline for CreateContainer.
CREATE_TIMEOUT = 60.0
COMMAND_TIMEOUT = 30.0


class Crun:
    """Runs crun with its state in the agent's layout."""

    def __init__(self, layout: Layout, reaper: Reaper, binary: str = CRUN) -> None:
        self._layout = layout
        self._reaper = reaper
        self._binary = binary

    async def create(
        self, container_id: str, bundle: str, stdio: Stdio, console: str | None, program: Sequence[str]
    ) -> int:
        """Make the container of `bundle`, not yet running its program; returns the pid of its init.

        `stdio` becomes the init's unless `console` names a console socket. Must run in a reaper's window.
        """
        pid_file = f"{bundle}/init.pid"
        options = ["--bundle", bundle, "--pid-file", pid_file, *_console(console)]
        await self._run("create", [*options, container_id], CREATE_TIMEOUT, stdio, program)
        return _pid(pid_file)

    async def start(self, container_id: str, program: Sequence[str]) -> None:
        """Let the init run its program."""
        await self._run("start", [container_id], program=program)

    async def exec(
        self, container_id: str, process_file: str, stdio: Stdio, console: str | None, program: Sequence[str]
    ) -> int:
        """Run a further process, described by the JSON in `process_file`; returns its pid. As `create` otherwise."""
        pid_file = process_file + ".pid"
        options = ["--detach", "--process", process_file, "--pid-file", pid_file, *_console(console)]
        try:
            await self._run("exec", [*options, container_id], COMMAND_TIMEOUT, stdio, program)
            return _pid(pid_file)
        finally:
            _remove(pid_file)

    async def update(self, container_id: str, resources_file: str) -> None:
        """Set the cgroup's limits to the OCI resources in `resources_file`."""
        await self._run("update", ["--resources", resources_file, container_id])

    async def delete(self, container_id: str) -> None:
        """Kill what is left of the container and remove it with its cgroup; no error if there is none."""
        await self._run("delete", ["--force", container_id])

    async def _run(
        self,
        command: str,
        arguments: Sequence[str],
        timeout: float = COMMAND_TIMEOUT,
        stdio: Stdio = NO_STDIO,
        program: Sequence[str] = (),
    ) -> None:
        os.makedirs(self._layout.crun_root, mode=0o700, exist_ok=True)
        log = f"{self._layout.state}/crun-{os.urandom(8).hex()}.log"
        options = [f"--root={self._layout.crun_root}", f"--log={log}", "--log-format=json"]
        try:
            argv = [self._binary, *options, command, *arguments]
            status = await run(argv, self._reaper, timeout, stdio)
            if status:
                raise error_for(command, status, last_error(_text(log)), program)
        finally:
            _remove(log)


def write_json(path: str, value: Any) -> str:
    """Write a JSON file that only the agent may read; returns `path`."""
    import json

    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(json.dumps(value))
    return path


def _console(console: str | None) -> list[str]:
    return [] if console is None else ["--console-socket", console]


def _pid(path: str) -> int:
    try:
        return int(_text(path))
    except ValueError as error:
        raise InternalError("crun wrote no pid") from error


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(LOG_LIMIT)
    except OSError:
        return ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
