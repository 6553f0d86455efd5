"""What a value may be: one small rule object per kind, each with its words for the error message.

`parse` takes what tomllib gave and returns the typed value, or raises `RuleError` that says what is
expected and what was found. Rules are pure: whether a file exists is asked when it is used
(`config.paths`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from config.errors import show

T_co = TypeVar("T_co", covariant=True)

#: Longest string and longest list a configuration may hold; far above anything sensible.
MAX_TEXT = 4096
MAX_ITEMS = 256


class RuleError(ValueError):
    """A value breaks its rule; the text reads on from the key's name."""


class Rule(Protocol[T_co]):
    """What a key's value may be."""

    @property
    def expects(self) -> str:
        """The allowed values in words, to be read after "must be"."""

    def parse(self, value: object) -> T_co:
        """The typed value; raises `RuleError`."""


@dataclass(frozen=True)
class Flag:
    """A TOML boolean."""

    expects: str = "true or false"

    def parse(self, value: object) -> bool:
        """`value` itself."""
        if not isinstance(value, bool):
            raise _broken(self, value)
        return value


@dataclass(frozen=True)
class Integer:
    """A whole number in a closed range; `unit` is for people."""

    low: int
    high: int
    unit: str = ""
    power_of_two: bool = False

    @property
    def expects(self) -> str:
        """The range in words."""
        kind = "a power of two" if self.power_of_two else "a whole number"
        return f"{kind} from {self.low} to {self.high}{' ' + self.unit if self.unit else ''}"

    def parse(self, value: object) -> int:
        """`value` itself; a boolean is no number."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise _broken(self, value)
        if self.power_of_two and value.bit_count() != 1:
            raise _broken(self, value)
        return value


@dataclass(frozen=True)
class Number:
    """A finite number, whole or not, of at most `high`."""

    high: float

    @property
    def expects(self) -> str:
        """The range in words."""
        return f"a number of at most {self.high:g}"

    def parse(self, value: object) -> float:
        """`value` as a float; a boolean, an infinity or a NaN is no number here."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not value <= self.high:
            raise _broken(self, value)
        try:
            number = float(value)
        except OverflowError:
            number = -math.inf
        if not math.isfinite(number):
            raise _broken(self, value)
        return number


@dataclass(frozen=True)
class Text:
    """Printable text on one line that matches `pattern` as a whole."""

    expects: str = "a printable string on one line"
    pattern: str = r".*"
    longest: int = MAX_TEXT

    def parse(self, value: object) -> str:
        """`value` itself."""
        if not isinstance(value, str) or not value.isprintable() or not re.fullmatch(self.pattern, value):
            raise _broken(self, value)
        if len(value) > self.longest:
            raise RuleError(f"must be at most {self.longest} characters, is {len(value)}")
        return value


@dataclass(frozen=True)
class Pattern:
    """A regular expression that compiles."""

    expects: str = "a regular expression"

    def parse(self, value: object) -> str:
        """`value` itself."""
        text = Text(self.expects).parse(value)
        try:
            re.compile(text)
        except re.error as broken:
            raise RuleError(f"must be {self.expects}, is {show(text)} ({broken})") from broken
        return text


@dataclass(frozen=True)
class Choice:
    """One of some words; `elsewhere` are values that Kata has and this runtime does not implement."""

    allowed: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()

    @property
    def expects(self) -> str:
        """The words."""
        return " or ".join(f'"{word}"' for word in self.allowed)

    def parse(self, value: object) -> str:
        """`value` itself."""
        if value in self.elsewhere:
            raise RuleError(f'"{value}" is not implemented by this runtime; must be {self.expects}')
        if not isinstance(value, str) or value not in self.allowed:
            raise _broken(self, value)
        return value


@dataclass(frozen=True)
class AbsolutePath:
    """A host path: absolute, without `..`."""

    expects: str = "an absolute path without '..'"

    def parse(self, value: object) -> Path:
        """`value` as a path."""
        text = Text(self.expects).parse(value)
        path = Path(text)
        if not path.is_absolute() or ".." in path.parts:
            raise _broken(self, value)
        return path


@dataclass(frozen=True)
class OptionalPath:
    """As `AbsolutePath`; the empty string means none."""

    expects: str = "an absolute path without '..', or empty"

    def parse(self, value: object) -> Path | None:
        """`value` as a path, or None."""
        return None if value == "" else AbsolutePath(self.expects).parse(value)


@dataclass(frozen=True)
class ListOf:
    """A list of strings, each under `item`."""

    item: Rule[str]

    @property
    def expects(self) -> str:
        """The items in words."""
        return f"a list, each item {self.item.expects}"

    def parse(self, value: object) -> tuple[str, ...]:
        """`value` as a tuple; the error names the index of the faulty item."""
        if not isinstance(value, list):
            raise _broken(self, value)
        if len(value) > MAX_ITEMS:
            raise RuleError(f"must have at most {MAX_ITEMS} items, has {len(value)}")
        return tuple(self._item(index, item) for index, item in enumerate(value))

    def _item(self, index: int, value: object) -> str:
        try:
            return self.item.parse(value)
        except RuleError as broken:
            raise RuleError(f"item {index} {broken}") from broken


def _broken(rule: Rule[object], value: object) -> RuleError:
    return RuleError(f"must be {rule.expects}, is {show(value)}")
