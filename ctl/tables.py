"""Text for people: columns, durations, sizes."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows under each other, the first of them the heading; each cell as wide as its column."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time span in its two largest units."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def bar(part: float, whole: float, width: int = 40) -> str:
    """A bar for a part of a whole, never longer than `width`; a part that is there at all shows."""
    if part <= 0 or whole <= 0:
        return ""
    return "#" * max(1, min(width, round(width * part / whole)))
