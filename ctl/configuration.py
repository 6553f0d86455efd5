"""`kata-ctl config`: the configuration as the runtime takes it, with where each value comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config import Config, ConfigError, check_paths, load
from config.keys import keys_of
from config.loader import TYPED
from ctl.errors import CtlError

#: The attribute of `Config` that holds a section.
_ATTRIBUTES = {"hypervisor.qemu": "hypervisor", "agent.kata": "agent", "runtime": "runtime", "factory": "factory"}


def show(file: Path | None) -> str:
    """All keys with their values as TOML; a comment behind each tells where it was set. Raises `CtlError`."""
    return "\n".join(_lines(_load(file)))


def check(file: Path | None) -> str:
    """What is wrong, or without effect, a line each. Raises `CtlError` for what a pod would be refused for."""
    settings = _load(file)
    try:
        check_paths(settings)
    except ConfigError as error:
        raise CtlError(str(error)) from error
    count = len(settings.ignored)
    return "\n".join((*settings.ignored, f"{settings.source}: valid, {count or 'no'} keys are ignored"))


def _load(file: Path | None) -> Config:
    try:
        return load(file and file.absolute())
    except ConfigError as error:
        raise CtlError(str(error)) from error


def _lines(settings: Config) -> Iterator[str]:
    for file in (settings.source, *settings.drop_ins):
        yield f"# from {file}"
    yield from (f"# {note}" for note in settings.ignored)
    for section, schema in TYPED.items():
        values = getattr(settings, _ATTRIBUTES[section])
        yield f"\n[{section}]"
        for name in keys_of(schema):
            yield f"{name} = {toml(getattr(values, name))}  # {settings.origins.get((section, name), 'default')}"


def toml(value: Any) -> str:
    """A value as TOML; what has no value is an empty string, as in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps("" if value is None else str(value))
