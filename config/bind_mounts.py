"""`sandbox_bind_mounts`: paths of the host that every sandbox' guest has, and the rule of the key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from config.rules import ListOf, RuleError, Text


@dataclass(frozen=True)
class BindMount:
    """A path of the host; in the guest it has the last part of its name."""

    source: str
    read_only: bool = True

    @property
    def name(self) -> str:
        """What it is called in the guest."""
        return PurePosixPath(self.source).name

    def __str__(self) -> str:
        return self.source if self.read_only else f"{self.source}:rw"


@dataclass(frozen=True)
class BindMounts:
    """Paths, each with `:ro` (what it is without either) or `:rw` after it, as Kata has them."""

    expects: str = (
        "a list of absolute paths without '..', each with ':ro' or ':rw' after it or nothing, of different names"
    )

    def parse(self, value: object) -> tuple[BindMount, ...]:
        """The mounts; two of one name would be one place in the guest."""
        items = ListOf(Text("an absolute path with ':ro', ':rw' or nothing after it", r"/[^:]*(:r[ow])?")).parse(value)
        mounts = tuple(_mount(item) for item in items)
        names = [mount.name for mount in mounts]
        for mount in mounts:
            if not mount.name or ".." in PurePosixPath(mount.source).parts:
                raise RuleError(f'must be {self.expects}; "{mount.source}" is not')
            if names.count(mount.name) > 1:
                raise RuleError(f'must be {self.expects}; "{mount.name}" is there twice')
        return mounts


def _mount(text: str) -> BindMount:
    path, _, mode = text.partition(":")
    return BindMount(path, read_only=mode != "rw")
