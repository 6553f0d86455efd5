"""Prometheus' text format (version 0.0.4) as values: families of samples, parsed from text that nobody vouches for.

Parsing keeps what is well-formed and within bounds, drops everything else, and never raises; what is rendered again is
well-formed whatever was parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

#: Bounds of a text: characters, samples, labels of a sample, characters of a label's value.
TEXT_MAX: Final = 4 << 20
SAMPLES_MAX: Final = 20_000
_LABELS_MAX = 16
_VALUE_MAX = 256
_LINE_MAX = 8192
_HELP_MAX = 200

_KINDS = frozenset({"counter", "gauge", "histogram", "summary", "untyped"})
#: What a sample of these kinds has behind the family's name.
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]{0,127})(\{.*\})?[ \t]+([^ \t]{1,40})(?:[ \t]+-?[0-9]{1,20})?[ \t]*")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]{0,63})="((?:[^"\\]|\\.)*)"[ \t]*(,|$)')
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?|[+-]?Inf|NaN")
_ABOUT = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]{0,127})[ \t]+(.*)")
_ESCAPED = re.compile(r"\\(.)")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sample:
    """One line: the whole name, labels, and the value as it is written."""

    name: str
    value: str
    labels: Labels = ()


@dataclass
class Family:
    """A metric with its samples."""

    name: str
    kind: str
    help: str = ""
    samples: list[Sample] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> Family:
        """One more sample; the family itself, so that one may go on."""
        self.samples.append(Sample(self.name, number(value), tuple(labels.items())))
        return self


def number(value: float) -> str:
    """A number as the format writes it, whole ones without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def parse(text: str, samples_max: int = SAMPLES_MAX) -> list[Family]:
    """The families in `text`, in their order; the kind of one that is not declared is `untyped`."""
    families: dict[str, Family] = {}
    left = samples_max
    for line in _lines(text[:TEXT_MAX]):
        if line.startswith("#"):
            _declare(families, line, samples_max)
        elif (sample := _sample(line)) is not None:
            left -= 1
            if left < 0:
                break
            _home(families, sample.name).samples.append(sample)
    return [family for family in families.values() if family.samples]


def _lines(text: str) -> Iterator[str]:
    """Line by line, without a second copy of all of it; overlong lines are left out."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if start < end <= start + _LINE_MAX:
            yield text[start:end]
        start = end + 1


def _declare(families: dict[str, Family], line: str, most: int) -> None:
    found = _ABOUT.fullmatch(line)
    if not found or (found[2] not in families and len(families) >= most):
        return
    family = families.setdefault(found[2], Family(found[2], "untyped"))
    if found[1] == "HELP":
        family.help = _ESCAPED.sub(r"\1", found[3])[:_HELP_MAX]
    elif found[3].strip() in _KINDS and not family.samples:
        family.kind = found[3].strip()


def _sample(line: str) -> Sample | None:
    found = _SAMPLE.fullmatch(line)
    if not found or not _NUMBER.fullmatch(found[3]):
        return None
    labels = _labels(found[2][1:-1]) if found[2] else ()
    return None if labels is None else Sample(found[1], found[3], labels)


def _labels(text: str) -> Labels | None:
    """The labels between the braces; None if they are malformed, too many or given twice."""
    labels: dict[str, str] = {}
    position = 0
    while position < len(text):
        found = _LABEL.match(text, position)
        if not found or found[1] in labels or len(labels) == _LABELS_MAX or len(found[2]) > _VALUE_MAX:
            return None
        labels[found[1]] = _ESCAPED.sub(lambda one: "\n" if one[1] == "n" else one[1], found[2])
        position = found.end()
    return tuple(labels.items())


def _home(families: dict[str, Family], name: str) -> Family:
    """The family that a sample belongs to."""
    if name in families:
        return families[name]
    for kind, suffixes in _SUFFIXES.items():
        for suffix in suffixes:
            base = name.removesuffix(suffix)
            if base != name and base in families and families[base].kind == kind:
                return families[base]
    return families.setdefault(name, Family(name, "untyped"))


def render(families: Iterable[Family]) -> str:
    """The text of the families."""
    return "".join(line for family in families for line in _family_lines(family))


def _family_lines(family: Family) -> Iterator[str]:
    if family.help:
        yield f"# HELP {family.name} {_plain(family.help)}\n"
    yield f"# TYPE {family.name} {family.kind}\n"
    for sample in family.samples:
        labels = ",".join(f'{name}="{_quoted(value)}"' for name, value in sample.labels)
        yield f"{sample.name}{{{labels}}} {sample.value}\n" if labels else f"{sample.name} {sample.value}\n"


def _plain(text: str) -> str:
    """One printable line, with its backslashes escaped."""
    return "".join(char if char.isprintable() else "?" for char in text).replace("\\", "\\\\")


def _quoted(text: str) -> str:
    return _plain(text).replace('"', '\\"')
