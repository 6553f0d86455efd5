"""The keys of the configuration in words, for `docs/configuration.md`: made from the schema, to say nothing twice.

`python -m config.explain docs/configuration.md` writes the tables anew, between the two marks in that page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from config.annotation_names import KEYS, LONE, PREFIX
from config.foreign import FOREIGN
from config.keys import Key, Verdict, keys_of
from config.loader import TYPED

BEGIN, END = "<!-- made by config.explain -->", "<!-- end -->"


def tables() -> str:
    """One table for each section, and one of the keys and annotations of Kata's that this runtime does not have."""
    return "\n".join([*_sections(), *_others()])


def filled(page: str) -> str:
    """`page` with the tables between its marks; raises `ValueError` if it has none."""
    before, found, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def _sections() -> Iterator[str]:
    for section, kind in TYPED.items():
        yield f"### `[{section}]`\n\n| key | default | meaning |\n|---|---|---|"
        yield from (_row(section, key) for key in keys_of(kind).values())
        yield ""


def _row(section: str, key: Key) -> str:
    meaning = f"{key.doc} Must be {_cell(key.rule.expects)}."
    names = sorted(name for name, place in KEYS.items() if place == (section, key.name))
    if names:
        meaning += f" Annotation {', '.join(f'`{name.removeprefix(PREFIX)}`' for name in names)}."
    if key.pending is not None:
        meaning += f" *Not acted on: {key.pending.reason}.*"
    return f"| `{key.name}` | {_default(key.default)} | {_cell(meaning)} |"


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return (
        f'`"{value}"`'
        if isinstance(value, str | Path)
        else f"`{value:g}`"
        if isinstance(value, float)
        else f"`{value}`"
    )


def _others() -> Iterator[str]:
    yield "### Keys and annotations of Kata's that this runtime does not have\n"
    yield "A value other than Kata's default is refused, or ignored with a line in the log, or means nothing here.\n"
    yield "| key or annotation | becomes | because |\n|---|---|---|"
    known = {f"[{section}] {name}": key for section, keys in FOREIGN.items() for name, key in keys.items()}
    for name, key in {**known, **{name.removeprefix(PREFIX): key for name, key in LONE.items()}}.items():
        verdict = "of no meaning" if key.stance.verdict is Verdict.HARMLESS else key.stance.verdict.value
        yield f"| `{name}` | {verdict} | {_cell(key.stance.reason)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.write_text(filled(where.read_text()))
