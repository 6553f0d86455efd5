"""Which containerd the beds run: the one on `PATH`, or the one in the directory that `BED_CONTAINERD` names.

Such a directory has `containerd`, `ctr` and `containerd-shim-runc-v2` of one release, put there by whoever wants the
tests under it. `BED_SANDBOXER=shim` has CRI make the pods of the kata handlers by the Sandbox API, which takes a
containerd 2.x.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from tests.harness.command import run

#: Names the directory of another containerd's programs.
DIRECTORY_VARIABLE = "BED_CONTAINERD"

#: Who makes the pods of the kata handlers under CRI: `podsandbox`, the default, or `shim`.
SANDBOXER_VARIABLE = "BED_SANDBOXER"


def program(name: str) -> str:
    """What runs one of containerd's programs: a path in the chosen directory, else the bare name."""
    directory = os.environ.get(DIRECTORY_VARIABLE)
    return str(Path(directory).absolute() / name) if directory else name


def search_path(first: Path | str, rest: str) -> str:
    """A `PATH` for containerd: `first`, the chosen directory if there is one, `rest`."""
    directory = os.environ.get(DIRECTORY_VARIABLE)
    return ":".join((str(first), *([str(Path(directory).absolute())] if directory else []), rest))


@functools.cache
def release() -> tuple[int, int]:
    """Major and minor number of the chosen containerd; raises `CommandError`, or `ValueError` for a strange answer."""
    said = run(program("containerd"), "--version", timeout=20).check().text
    return parse_release(said)


def parse_release(said: str) -> tuple[int, int]:
    """The numbers in what `containerd --version` says; raises `ValueError` if there are none."""
    match = re.search(r"\bv?(\d+)\.(\d+)[.\d]*", said)
    if match is None:
        raise ValueError(f"no release in what containerd says of itself: {said[:200]!r}")
    return int(match[1]), int(match[2])


def sandboxer() -> str:
    """Who makes the pods of the kata handlers."""
    return os.environ.get(SANDBOXER_VARIABLE, "podsandbox")
