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
from tests.harness.waiting import WaitTimeoutError, eventually

_LINE = re.compile(r"(/\S+) (\{.*\})$")

#: What `watch` provokes to know that it is heard.
_PROBE = "/namespaces/update"


@dataclass(frozen=True)
class Event:
    """One event; `seen` is a reading of the monotonic clock."""

    topic: str
    data: dict[str, Any]
    seen: float

    @property
    def container(self) -> str:
        """The container that it is about."""
        return str(self.data.get("container_id", ""))

    @property
    def subject(self) -> str:
        """The exec or the container that it is about."""
        return str(self.data.get("id") or self.data.get("exec_id") or self.container)


class Events:
    """Reads what `ctr events` prints; made by `watch`."""

    def __init__(self, source: subprocess.Popen[bytes]) -> None:
        if source.stdout is None:
            raise ValueError("the source has no output to read")
        self._fd = source.stdout.fileno()
        self._rest = b""
        self.seen: list[Event] = []

    def expect(self, topic: str, subject: str, timeout: float = 30.0) -> Event:
        """The first event of `topic` about `subject`, seen before or within `timeout` seconds from now."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.seen:
                if (event.topic, event.subject) == (topic, subject):
                    return event
            if not self.read(deadline - time.monotonic()):
                topics = [f"{event.topic} {event.subject}" for event in self.seen]
                raise WaitTimeoutError(f"event {topic} of {subject}: not within {timeout:g} s, only {topics}")

    def of(self, container: str) -> list[tuple[str, str]]:
        """Topic and subject of each event about a container and its execs that was seen, in order."""
        return [(event.topic, event.subject) for event in self.seen if event.container == container]

    def read(self, timeout: float) -> bool:
        """Take in what comes within `timeout` seconds; whether anything did."""
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
    """All events of all namespaces from now on."""
    with ctr.background("events") as source:
        events = Events(source)

        def heard() -> bool:
            ctr("namespaces", "label", "default", f"watched={time.monotonic_ns()}").check()
            events.read(0.2)
            return any(event.topic == _PROBE for event in events.seen)

        eventually(heard, "ctr events shows what happens")
        yield events
