"""What is mounted where on this host, by /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: Mounts of a node with thousands of pods; more is not read.
MAX_BYTES = 64 << 20
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class MountedAt:
    """A mount: its file system's type and options, and which directory of that file system is shown."""

    fstype: str
    root: str
    options: tuple[str, ...]


def mounted(text: str) -> dict[str, MountedAt]:
    """The mounts by their mount points; where several are stacked, the uppermost."""
    found: dict[str, MountedAt] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(" "), right.split(" ")
        if len(fields) >= 6 and len(kinds) >= 3:
            found[_plain(fields[4])] = MountedAt(kinds[0], _plain(fields[3]), tuple(kinds[2].split(",")))
    return found


def read() -> dict[str, MountedAt]:
    """The mounts that this process sees."""
    with Path("/proc/self/mountinfo").open("rb") as file:
        return mounted(file.read(MAX_BYTES).decode(errors="surrogateescape"))


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
