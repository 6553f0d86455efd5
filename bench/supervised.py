"""A program with a time limit that is always given the chance to clean up, by SIGINT, before it is killed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Seconds to clean up in after a first and after a second SIGINT (which interrupts what the first one waits for).
GRACE = (60.0, 30.0)


def be_interruptible() -> None:
    """Have SIGINT and SIGTERM raise `KeyboardInterrupt`, even if whoever started this process had it ignore them.

    At once, wherever it is: asyncio replaces Python's own handler by one that waits for the next await, but not this.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status, whether its time was up, how long it took in seconds, its last line."""

    status: int
    late: bool
    seconds: float
    last_line: str


def run(command: Sequence[str], log: Path, limit: float, grace: Sequence[float] = GRACE) -> Ended:
    """Run it with its output in `log`. It has a session of its own, and is interrupted when this process dies.

    A `KeyboardInterrupt` here is passed on as SIGINT, and goes on once the program has ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("wb") as output:
        child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "INT", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        late = False
        try:
            child.wait(limit)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            end(child, grace)
    return Ended(child.returncode, late, time.monotonic() - began, last_line(log.read_text(errors="replace")))


def end(child: subprocess.Popen[bytes], grace: Sequence[float]) -> None:
    """Interrupt a process until it has ended, and kill it if it does not; nothing if it has ended already."""
    try:
        for seconds in grace:
            if child.poll() is not None:
                return
            child.send_signal(signal.SIGINT)
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def last_line(text: str) -> str:
    """The last line that is not empty, at most 500 characters of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no output"
