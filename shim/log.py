"""The daemon's log: lines in the text format of logrus, written to the bundle's log FIFO, which containerd copies to
its own.

The daemon never waits for its log. What the FIFO can't take is kept, up to a bound, and written when there is room
again; beyond the bound lines are dropped, and the next line that gets through says how many.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import deque
from typing import Any

#: Lines kept while nobody reads the FIFO.
MAX_LINES = 1024

#: Longest line, in bytes; what is cut is what a guest may have written.
MAX_LINE = 8192

_LEVELS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+")


class LogrusFormatter(logging.Formatter):
    """`time="..." level=info msg="..." key=value`; `fields` are added to every line.

    A record brings fields of its own in its attribute `fields` (`extra={"fields": {...}}`).
    """

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end, however many the message and its traceback have."""
        seconds, nanos = divmod(int(record.created * 1e9), 1_000_000_000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        parts = [
            f'time="{stamp}.{nanos:09d}Z"',
            f"level={_LEVELS.get(record.levelno, 'info')}",
            f"msg={_quoted(record.getMessage())}",
        ]
        fields: dict[str, object] = {**self._fields, "logger": record.name, **getattr(record, "fields", {})}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        parts += [f"{name}={_quoted(str(value))}" for name, value in fields.items()]
        return " ".join(parts)


class FifoHandler(logging.Handler):
    """Writes to a non-blocking descriptor and never waits; `attach` lets an event loop write what was kept back."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watching = False

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Let `loop` write what is kept back; None before the loop is closed."""
        if loop is None and self._loop is not None:
            self._unwatch(self._loop)
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or keep it for later, or drop it."""
        try:
            line = self.format(record).encode(errors="backslashreplace")[:MAX_LINE]
        except Exception:  # noqa: BLE001 - a record that can't be formatted must not end what is logged
            line = b'level=error msg="malformed log record"'
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(line + b"\n")
        self.flush()

    def flush(self) -> None:
        """Write what can be written without waiting."""
        self.acquire()
        try:
            while self._lines:
                written = self._write(self._lines[0])
                if written < len(self._lines[0]):
                    self._lines[0] = self._lines[0][written:]
                    self._ask_for_room()
                    return
                self._lines.popleft()
                self._tell_dropped()
        finally:
            self.release()

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError:
            # The reader is gone for good, or there never was one: the line is lost, not the daemon.
            return len(data)

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._lines.append(f'level=warning msg="{self._dropped} log lines dropped"\n'.encode())
            self._dropped = 0

    def _ask_for_room(self) -> None:
        if self._loop is not None and not self._watching and not self._loop.is_closed():
            self._watching = True
            self._loop.call_soon_threadsafe(self._watch)

    def _watch(self) -> None:
        if self._loop is None:
            return
        try:
            self._loop.add_writer(self._fd, self._room)
        except OSError:
            self._watching = False

    def _room(self) -> None:
        if self._loop is not None:
            self._unwatch(self._loop)
        self.flush()

    def _unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._watching:
            loop.remove_writer(self._fd)
            self._watching = False


def configure(fd: int, debug: bool, fields: dict[str, str]) -> FifoHandler:
    """Send all logging of the process to `fd`; `fields` go into every line."""
    os.set_blocking(fd, False)
    handler = FifoHandler(fd)
    handler.setFormatter(LogrusFormatter(fields))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_levels(debug)
    # A failing handler must not write a traceback where containerd's log is.
    logging.raiseExceptions = False
    return handler


def set_levels(debug: bool) -> None:
    """Say what is logged. A level that is right already stays untouched: a change of one goes through all loggers, and
    a forked daemon would write to every page that has one of them.
    """
    for name, level in (("", logging.DEBUG if debug else logging.INFO), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        if logger.level != level:
            logger.setLevel(level)


def _quoted(value: Any) -> str:
    text = str(value)
    if text and all(char in _PLAIN for char in text):
        return text
    return json.dumps(text)
