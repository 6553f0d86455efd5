"""Lists of paths that a pod's annotation may name, as glob patterns of the host (`valid_*_paths`).

A path must be allowed twice: as it is written, and with its symbolic links followed, where the fixed part of a pattern
is followed too, so that an administrator may list a link. `*`, `?` and `[...]` never match a slash (Go's
`filepath.Glob`, which Kata uses).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

Resolve = Callable[[str], str]

_WILD = re.compile(r"[*?\[]")


def allowed_path(path: Path, patterns: Iterable[str], resolve: Resolve = os.path.realpath) -> Path | None:
    """What `path` leads to, if it is allowed; `path` is absolute and has no `..`."""
    patterns = [pattern for pattern in patterns if pattern.startswith("/") and ".." not in Path(pattern).parts]
    if not any(matches(str(path), pattern) for pattern in patterns):
        return None
    real = resolve(str(path))
    if not any(matches(real, _followed(pattern, resolve)) for pattern in patterns):
        return None
    return Path(real)


def matches(path: str, pattern: str) -> bool:
    """Whether `pattern` matches all of `path`, part by part."""
    parts, wanted = Path(path).parts, Path(pattern).parts
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _followed(pattern: str, resolve: Resolve) -> str:
    """`pattern` with the links in its fixed part followed. What they lead to is fixed as well."""
    parts = Path(pattern).parts
    fixed = next((index for index, part in enumerate(parts) if _WILD.search(part)), len(parts))
    real = resolve(os.path.join(*parts[:fixed]))
    return os.path.join(_WILD.sub(lambda wild: f"[{wild[0]}]", real), *parts[fixed:])
