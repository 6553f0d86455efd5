"""The configuration before it has types: for each section and key a value and the place it came from.

Reads the source and its drop-ins and lays them over each other: per key, the last file wins; arrays are
replaced, not appended (as Kata does).
"""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.errors import ConfigError
from config.toml_lines import find_lines

#: A configuration is some 40 KB with all its comments; more than this is not one.
MAX_BYTES = 1024 * 1024
#: More drop-ins than this are a mistake.
MAX_DROP_INS = 256


@dataclass(frozen=True)
class Origin:
    """Where a value was set, for messages."""

    file: Path | str
    line: int | None = None

    def __str__(self) -> str:
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Setting:
    """A value as tomllib gave it."""

    value: object
    origin: Origin


#: By section and key, e.g. ("hypervisor.qemu", "path").
Settings = Mapping[tuple[str, str], Setting]


def drop_ins(source: Path) -> tuple[Path, ...]:
    """The `config.d/*.toml` next to `source`, in lexical order of their names; raises `ConfigError`."""
    folder = source.parent / "config.d"
    try:
        found = sorted(each for each in folder.iterdir() if each.name.endswith(".toml"))
    except FileNotFoundError:
        return ()
    except OSError as failed:
        raise ConfigError(f"drop-in directory can't be read: {failed.strerror}", where=folder) from failed
    if len(found) > MAX_DROP_INS:
        raise ConfigError(f"more than {MAX_DROP_INS} drop-ins", where=folder)
    return tuple(found)


def read(file: Path, sections: Collection[str]) -> Settings:
    """The settings of one file, whose tables may be `sections` only; raises `ConfigError` with the line."""
    text = _read_text(file)
    return _settings(_parse(text, file), text, file, sections)


def read_tables(text: str, name: Path, sections: Collection[str]) -> Settings:
    """The settings in the tables of a text that messages call `name`; keys outside of all tables are passed over.

    Raises `ConfigError` as `read` does.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"has {len(text)} characters; a configuration has at most {MAX_BYTES}", where=name)
    tables = {key: value for key, value in _parse(text, name).items() if isinstance(value, dict)}
    return _settings(tables, text, name, sections)


def _settings(document: dict[str, Any], text: str, file: Path, sections: Collection[str]) -> Settings:
    lines = find_lines(text)
    return {
        (section, key): Setting(value, Origin(file, _nearest(lines, (*section.split("."), key))))
        for section, key, value in _walk(document, (), _Place(file, lines, sections))
    }


def _read_text(file: Path) -> str:
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError("is not a regular file", where=file)
        if about.st_size > MAX_BYTES:
            raise ConfigError(f"has {about.st_size} bytes; a configuration has at most {MAX_BYTES}", where=file)
        return file.read_text(encoding="utf-8")
    except OSError as failed:
        raise ConfigError(f"can't be read: {failed.strerror}", where=file) from failed
    except UnicodeDecodeError as failed:
        raise ConfigError(f"is not UTF-8 text (byte {failed.start})", where=file) from failed


def _parse(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as failed:
        raise ConfigError(f"is not valid TOML: {failed}", where=file) from failed
    except (RecursionError, ValueError) as failed:
        # Nested beyond the interpreter's stack, or a number or date beyond what it represents.
        raise ConfigError(f"is not valid TOML: {failed}", where=file) from failed


@dataclass(frozen=True)
class _Place:
    """What the walk needs to say where it is."""

    file: Path
    lines: Mapping[tuple[str, ...], int]
    sections: Collection[str]

    def error(self, path: tuple[str, ...], message: str) -> ConfigError:
        return ConfigError(message, where=Origin(self.file, _nearest(self.lines, path)))


def _walk(table: Mapping[str, Any], path: tuple[str, ...], place: _Place) -> Iterator[tuple[str, str, object]]:
    """Section, key and value of all that is set; descends into known sections and nowhere else."""
    section = ".".join(path)
    for name, value in table.items():
        here = (*path, name)
        dotted = ".".join(here)
        if _leads_to_section(dotted, place.sections):
            if not isinstance(value, dict):
                raise place.error(here, f"[{dotted}] must be a table")
            yield from _walk(value, here, place)
        elif section in place.sections:
            yield section, name, value
        else:
            raise place.error(here, _stranger(path, dotted, isinstance(value, dict), place.sections))


def _leads_to_section(dotted: str, sections: Collection[str]) -> bool:
    return any(section == dotted or section.startswith(f"{dotted}.") for section in sections)


def _stranger(path: tuple[str, ...], dotted: str, is_table: bool, sections: Collection[str]) -> str:
    """What to say of something that is in no section."""
    if path == ("hypervisor",):
        return f"[{dotted}]: qemu is the only hypervisor of this runtime, its section is [hypervisor.qemu]"
    if path == ("agent",):
        return f"[{dotted}]: kata is the only agent of this runtime, its section is [agent.kata]"
    if not is_table:
        return f'key "{dotted}" stands outside of any section'
    return f"unknown section [{dotted}]{suggestion(dotted, sections, '[{}]')}"


def suggestion(word: str, known: Collection[str], form: str = '"{}"') -> str:
    """`; did you mean ...?` if something in `known` is near to `word`, else nothing."""
    # Only who misspells pays for it.
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1, cutoff=0.7)
    return f"; did you mean {form.format(near[0])}?" if near else ""


def _nearest(lines: Mapping[tuple[str, ...], int], path: tuple[str, ...]) -> int | None:
    """The line of `path`, else that of the table it is in."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None
