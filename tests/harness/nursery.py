"""The parent's end of the reaper: start a program, know its descendants, and end them all."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.harness import processes

_REAPER = Path(__file__).with_name("reaper.py")


class NurseryError(Exception):
    """The reaper is gone or does not answer."""


class Nursery:
    """Life: made (the reaper runs), `start` any number of times, `close` (every descendant is dead).

    The reaper ends with the process that made it, whatever ends that, and takes all descendants along.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        with log.open("ab") as log_file:
            self._reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_REAPER), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=dict(env),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The reaper's own pid, root of the tree."""
        return self._reaper.pid

    def start(self, timeout: float = 5.0) -> int:
        """Run the command once more; returns its pid. Raises `NurseryError` if the reaper does not answer."""
        stdin, stdout = self._reaper.stdin, self._reaper.stdout
        if stdin is None or stdout is None or self._reaper.poll() is not None:
            raise NurseryError("the reaper of the bed is gone")
        stdin.write(b"start\n")
        stdin.flush()
        if not select.select([stdout], [], [], timeout)[0]:
            raise NurseryError(f"the reaper of the bed did not answer within {timeout:g} s")
        line = stdout.readline()
        if not line:
            raise NurseryError("the reaper of the bed ended; its log says why")
        return int(line)

    def processes(self) -> list[processes.Process]:
        """Every process below the reaper, detached daemons among them."""
        return processes.descendants([self.pid])

    def close(self, timeout: float = 30.0) -> None:
        """Kill every descendant and the reaper; idempotent. Raises `NurseryError` if one can't be killed in time."""
        stdin, stdout = self._reaper.stdin, self._reaper.stdout
        if stdin is not None and not stdin.closed:
            stdin.close()
        try:
            self._reaper.wait(timeout)
        except subprocess.TimeoutExpired as error:
            left = "; ".join(str(one) for one in self.processes())
            raise NurseryError(f"processes of the bed can't be killed within {timeout:g} s: {left}") from error
        if stdout is not None:
            stdout.close()
