"""CRI's log file format: lines `<RFC 3339 time> <stdout|stderr> <F|P> <text>`, where P is a part of a longer line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LogLine:
    """One whole line that a container wrote."""

    time: str
    stream: str
    text: str


def parse_log(text: str) -> list[LogLine]:
    """The lines of a log, parts put together; an unfinished one counts too. Raises `ValueError` for other text."""
    lines: list[LogLine] = []
    parts: dict[str, LogLine] = {}
    for row in text.splitlines():
        try:
            time, stream, tag, content = row.split(" ", 3)
        except ValueError as error:
            raise ValueError(f"not a line of a CRI log: {row!r}") from error
        before = parts.pop(stream, None)
        line = LogLine(before.time if before else time, stream, (before.text if before else "") + content)
        if tag == "P":
            parts[stream] = line
        else:
            lines.append(line)
    return lines + list(parts.values())


def read_log(path: Path) -> list[LogLine]:
    """The lines of the log at `path`; none if it has not been made yet."""
    return parse_log(path.read_text(errors="replace")) if path.exists() else []
