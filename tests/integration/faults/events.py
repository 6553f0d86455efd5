"""containerd's event stream, with the moment at which each event was seen."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.harness.ctr import Ctr
from tests.harness.waiting import WaitTimeoutError

_LINE = re.compile(r"(/\S+) (\{.*\})$")


@dataclass(frozen=True)
class Event:
    """One event; `seen` is a reading of the monotonic clock."""

    topic: str
    data: dict[str, Any]
    seen: float

    @property
    def subject(self) -> str:
        """The exec or the container that it is about."""
        return str(self.data.get("id") or self.data.get("exec_id") or self.data.get("container_id", ""))


class Events:
    """Reads what `ctr events` prints; made by `watch`."""

    def __init__(self, source: subprocess.Popen[bytes]) -> None:
        if source.stdout is None:
            raise ValueError("the source has no output to read")
        self._fd = source.stdout.fileno()
        self._rest = b""
        self.seen: list[Event] = []

    def expect(self, topic: str, subject: str, timeout: float = 10.0) -> Event:
        """The first event of `topic` about `subject`, seen before or within `timeout` seconds from now."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.seen:
                if (event.topic, event.subject) == (topic, subject):
                    return event
            if not self._read(deadline - time.monotonic()):
                topics = [f"{event.topic} {event.subject}" for event in self.seen]
                raise WaitTimeoutError(f"event {topic} of {subject}: not within {timeout:g} s, only {topics}")

    def _read(self, timeout: float) -> bool:
        if timeout <= 0 or not select.select([self._fd], [], [], timeout)[0]:
            return False
        data = os.read(self._fd, 65536)
        now = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = (_LINE.search(line.decode()) for line in lines)
        self.seen += [Event(match[1], json.loads(match[2]), now) for match in found if match]
        return bool(data)


@contextmanager
def watch(ctr: Ctr) -> Iterator[Events]:
    """The events of all namespaces from about now on; whoever needs the first ones waits for an earlier one."""
    with ctr.background("events") as source:
        yield Events(source)
