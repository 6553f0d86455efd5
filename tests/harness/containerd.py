"""The life of a private containerd: start, stop, kill, start again, with a deadline for each."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from shim.forkserver import client
from tests.harness import processes
from tests.harness.command import CommandError, run
from tests.harness.containerd_version import program
from tests.harness.nursery import Nursery
from tests.harness.waiting import WaitTimeoutError, eventually

#: Variables that would change how a shim of ours runs, and that a user's containerd does not have.
_NOT_FOR_SHIMS = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONUNBUFFERED", "VIRTUAL_ENV", "TTRPC_ADDRESS")


class ContainerdError(Exception):
    """containerd did not start, or did not stop; one line with the end of its log."""


class Containerd:
    """One containerd under a reaper. `start` and `stop` (or `kill`) alternate; `close` ends everything it ran.

    Shims and their VMs outlive `stop` and `kill`, as they outlive a real containerd; they don't outlive `close`.
    """

    def __init__(self, config: Path, socket: Path, log: Path, search_path: str, env: Mapping[str, str]) -> None:
        self.socket = socket
        self.log = log
        inherited = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_SHIMS}
        command = [program("containerd"), "--config", str(config)]
        # A fork server of its own: pods that outlive this containerd's must not be children of another one's.
        own = {"PATH": search_path, client.SWITCH: str(socket)}
        self._nursery = Nursery(command, log, {**inherited, **own, **env})
        self.pid = 0

    @property
    def reaper_pid(self) -> int:
        """Root of the tree of everything this containerd ever started."""
        return self._nursery.pid

    def start(self, timeout: float = 30.0) -> None:
        """Start, and return when the API and all CRI parts answer. Raises `ContainerdError`."""
        self.pid = self._nursery.start()
        try:
            eventually(self._is_serving, "containerd answers", timeout)
        except WaitTimeoutError as error:
            raise ContainerdError(f"{error}; {self.log}: {self.log_tail()}") from error

    def _is_serving(self) -> bool:
        if not processes.is_alive(self.pid):
            raise ContainerdError(f"containerd ended at once; {self.log}: {self.log_tail()}")
        if not self.socket.exists():
            return False
        try:
            asked = run(program("ctr"), "-a", self.socket, "--connect-timeout", "2s", "version", timeout=5)
            return asked.returncode == 0
        except CommandError:
            return False

    def stop(self, timeout: float = 20.0) -> None:
        """SIGTERM, and wait for the end. Shims stay. Raises `ContainerdError` if it does not end in time."""
        self._end(signal.SIGTERM, timeout)

    def kill(self, timeout: float = 5.0) -> None:
        """SIGKILL: what a crash of containerd looks like to its shims."""
        self._end(signal.SIGKILL, timeout)

    def _end(self, number: signal.Signals, timeout: float) -> None:
        pid, self.pid = self.pid, 0
        if not pid or not processes.is_alive(pid):
            return
        os.kill(pid, number)
        if not processes.wait_gone(pid, timeout):
            self.pid = pid
            raise ContainerdError(f"containerd (pid {pid}) did not end within {timeout:g} s of {number.name}")

    def restart(self, timeout: float = 30.0) -> None:
        """Stop and start: what an upgrade of containerd looks like to its shims."""
        self.stop()
        self.start(timeout)

    def log_tail(self, lines: int = 3) -> str:
        """The last lines of the log as one line."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return "(no log)"
        return " | ".join(text.splitlines()[-lines:])[-1500:] or "(empty)"

    def processes(self) -> list[processes.Process]:
        """Everything below the reaper but containerd itself: shims, VMs, helpers, containers."""
        return [one for one in self._nursery.processes() if one.pid != self.pid]

    def close(self) -> None:
        """End containerd in order, then kill whatever is left below the reaper; idempotent."""
        try:
            self.stop()
        finally:
            self._nursery.close()
