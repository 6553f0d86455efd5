"""The agent's log: one bounded line per event on the guest's console, and the last lines in memory.

The console is slow (every character is a port access of the guest), so lines are cut and their rate is bounded:
a container that provokes messages can't stall the agent.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque

from guest.agent.errors import one_line

LINE_LIMIT = 500
KEPT_LINES = 200
BURST = 100
LINES_PER_SECOND = 10.0

log = logging.getLogger("agent")

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


class Console(logging.Handler):
    """Writes records to a file descriptor, at most `BURST` at once and `LINES_PER_SECOND` in the long run."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._credit = float(BURST)
        self._filled_at = time.monotonic()
        self._dropped = 0
        #: The last lines, whether or not the console took them.
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a console that fails is ignored, for there is nowhere to complain."""
        line = _format(record)
        self.lines.append(line)
        if not self._take_credit():
            self._dropped += 1
            return
        if self._dropped:
            line = f"{line} ({self._dropped} earlier lines dropped)"
            self._dropped = 0
        try:
            os.write(self._fd, line.encode("utf-8", "replace") + b"\n")
        except OSError:
            pass

    def _take_credit(self) -> bool:
        now = time.monotonic()
        self._credit = min(float(BURST), self._credit + (now - self._filled_at) * LINES_PER_SECOND)
        self._filled_at = now
        if self._credit < 1:
            return False
        self._credit -= 1
        return True


def set_up(level: str, fd: int = 2) -> Console:
    """Send the agent's and asyncio's records to `fd`; `level` is a name as in `agent.log=`, unknown ones mean info."""
    console = Console(fd)
    root = logging.getLogger()
    root.handlers[:] = [console]
    root.setLevel(_LEVELS.get(level.lower(), logging.INFO))
    logging.raiseExceptions = False
    return console


def _format(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}: {_where(record.exc_info[1])}"
    return one_line(f"[{time.monotonic():.3f}] kata-agent {record.levelname.lower()}: {text}", LINE_LIMIT)


def _where(error: BaseException) -> str:
    """The error with its innermost place in the code: a whole traceback is too long for a console line."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error} at {place}"
