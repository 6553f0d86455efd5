"""Metadata of a call: pairs of lower-case key and text, where a key may come more than once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

Pairs = tuple[tuple[str, str], ...]
MetadataLike = Mapping[str, str] | Collection[tuple[str, str]]


class Metadata(Mapping[str, str]):
    """Received metadata as a mapping from each key to its first value."""

    __slots__ = ("_first", "_pairs")

    def __init__(self, pairs: Pairs = ()) -> None:
        self._pairs = tuple((key.lower(), value) for key, value in pairs)
        self._first = dict(reversed(self._pairs))

    def __getitem__(self, key: str) -> str:
        return self._first[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def getall(self, key: str) -> list[str]:
        """Return every value of `key`, in order; empty when there is none."""
        return [value for name, value in self._pairs if name == key]


def to_pairs(metadata: MetadataLike | None) -> Pairs:
    """Return what the caller gave as pairs for the wire, keys in lower case; TypeError for a value that is not text."""
    if not metadata:
        return ()
    pairs = metadata.items() if isinstance(metadata, Mapping) else metadata
    for key, value in pairs:
        if not isinstance(value, str):
            raise TypeError(f"metadata {key!r}: ttrpc carries text, not {type(value).__name__}")
    return tuple((key.lower(), value) for key, value in pairs)
