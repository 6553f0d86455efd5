"""The results of all benchmarks as files: a JSON for each table, and a page of all of them, whenever they were made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.catalogue import place
from bench.outcome import Bar, Outcome

_LIST_OF_NUMBERS = re.compile(r"\[[-+\d.eE,\s]+\]")


@dataclass(frozen=True)
class Record:
    """A table and the machine it was measured on."""

    outcome: Outcome
    machine: Mapping[str, str]


def save(outcome: Outcome, machine: Mapping[str, str], directory: Path) -> Path:
    """Write `<name>.json`, with the samples of a subject on one line."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": dict(machine), **outcome.to_json()}, indent=1)
    path = directory / f"{outcome.name}.json"
    path.write_text(_LIST_OF_NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n")
    return path


def load(directory: Path) -> list[Record]:
    """All results in a directory, in the order of the benchmarks; raises `ValueError` naming a file that is none."""
    found = [_record(path) for path in directory.glob("*.json")]
    return sorted(found, key=lambda record: place(record.outcome.name))


def _record(path: Path) -> Record:
    try:
        value = json.loads(path.read_text())
        return Record(Outcome.from_json(value), value["machine"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no result of a benchmark: {error}") from error


def page(records: Sequence[Record], pictures: Sequence[str] = ()) -> str:
    """The page: the machine of the latest result, all bars, the pictures (file names), all tables.

    A table that is older says when it was made.
    """
    if not records:
        return "# Benchmarks\n\nNone has run.\n"
    latest = max(records, key=lambda record: record.machine.get("date", ""))
    parts = [
        "# Benchmarks",
        "Made by `make bench`; [docs/benchmarks.md](../../docs/benchmarks.md) explains each figure.",
    ]
    parts.append("\n".join(f"- {key}: {value}" for key, value in latest.machine.items() if key != "load before"))
    parts.append(bars_table([(record.outcome.name, bar) for record in records for bar in record.outcome.bars]))
    parts += [f"![{name.rpartition('.')[0].replace('-', ' ')}]({name})" for name in pictures]
    parts += [f"{record.outcome.to_markdown()}\n{_when(record)}" for record in records]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _when(record: Record) -> str:
    of = record.machine
    return f"*{of.get('date', 'undated')}, load before: {of.get('load before', 'unknown')}*"


def bars_table(bars: Sequence[tuple[str, Bar]]) -> str:
    """All bars, each with its benchmark's name, in one table."""
    lines = ["## Bars", "", "| benchmark | figure | measured | at most | met | beside |", "|---|---|---:|---:|---|---|"]
    for name, bar in bars:
        words = "; ".join(text for text in (bar.beside, bar.remark) if text)
        verdict = "yes" if bar.met else "**no**"
        lines.append(f"| `{name}` | {bar.what} | {bar.measured} | {bar.most} | {verdict} | {words} |")
    return "\n".join(lines)
