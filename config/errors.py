"""The one error of this room, and how a value is shown in it."""

from __future__ import annotations

import json

#: Longest value that is shown whole in a message.
_SHOWN = 60


class ConfigError(Exception):
    """The configuration can't be used. One line: where, which key, what is wrong, what is allowed."""

    def __init__(self, message: str, *, where: object = "") -> None:
        place = str(where)
        super().__init__(one_line(f"{place}: {message}" if place else message))


class NotAllowedError(ConfigError):
    """A pod asks for what the configuration does not allow it, or this runtime does not support."""


def one_line(text: str) -> str:
    """`text` on one line, with `?` for what can't be printed: a configuration may hold anything."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def show(value: object) -> str:
    """`value` as TOML would write it, with its type if that helps, cut to a readable length."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the string {_cut(json.dumps(value, ensure_ascii=False))}"
    if isinstance(value, int | float):
        return _cut(str(value))
    if isinstance(value, dict):
        return "a table"
    return "an array" if isinstance(value, list) else f"a {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
