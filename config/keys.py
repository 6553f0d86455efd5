"""How a dataclass field becomes a key of the configuration: its rule, its documentation, its stance.

A section's dataclass is the schema. `key()` stands in for `dataclasses.field` and hangs what the loader and
`explain` need on the field, so that nothing about a key is said twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from config.rules import Rule

T = TypeVar("T")

_METADATA = "config.key"


class Verdict(Enum):
    """What happens to a value, other than the default, that this runtime does not act on."""

    #: Accepted in silence: any value agrees with what this runtime does, or has no meaning here.
    HARMLESS = "harmless"
    #: Accepted and listed in `Config.ignored`: the pod runs as it should, only not tuned in this way.
    IGNORED = "ignored"
    #: An error: to go on would break a promise of security, isolation, a limit, or what a pod sees.
    REFUSED = "refused"


@dataclass(frozen=True)
class Stance:
    """A verdict and, for people, its reason, which reads on from "is ignored:" or "is not supported:"."""

    verdict: Verdict
    reason: str


def harmless(reason: str) -> Stance:
    """Any value will do."""
    return Stance(Verdict.HARMLESS, reason)


def ignored(reason: str) -> Stance:
    """A value other than the default has no effect, and the user is told."""
    return Stance(Verdict.IGNORED, reason)


def refused(reason: str) -> Stance:
    """A value other than the default is an error."""
    return Stance(Verdict.REFUSED, reason)


@dataclass(frozen=True)
class Key:
    """All that is known about one key."""

    name: str
    default: Any
    rule: Rule[Any]
    #: What the key means, with units, for `config explain`.
    doc: str
    #: Set while the key is read and checked, but nothing acts on it yet.
    pending: Stance | None = None


def key(default: T, rule: Rule[T], doc: str, *, pending: Stance | None = None) -> T:
    """A dataclass field that is a key; its name and its default are the field's."""
    about = {"rule": rule, "doc": " ".join(doc.split()), "pending": pending}
    return field(default=default, metadata={_METADATA: about})


@cache
def keys_of(section: type) -> Mapping[str, Key]:
    """The keys of a section's dataclass, in the order of its fields."""
    return {
        each.name: Key(each.name, each.default, **each.metadata[_METADATA])
        for each in fields(section)
        if _METADATA in each.metadata
    }
