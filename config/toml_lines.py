"""On which line a key stands: tomllib tells values, not places.

A scan of headers and of `key =` at the start of a line; it knows multi-line strings. What it can't place
(keys of inline tables) it leaves out: a message then names the file and the key only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_NAME = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')"""
_DOTTED = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_MULTILINE = re.compile(r'"""|\'\'\'')


def find_lines(text: str) -> Mapping[tuple[str, ...], int]:
    """Line numbers, from 1, of the tables and keys of a TOML document, by their full dotted path."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in _outside_strings(text):
        if header := _HEADER.match(line):
            table = _split(header[1])
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault((*table, *_split(assignment[1])), number)
    return lines


def _outside_strings(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines that do not begin inside a multi-line string."""
    delimiter = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if not delimiter:
            yield number, line
        for mark in _MULTILINE.findall(line):
            if not delimiter:
                delimiter = mark
            elif mark == delimiter:
                delimiter = ""


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_NAME, dotted))
