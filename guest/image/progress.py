"""Progress of a build on the terminal: one line per step with its duration."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LABEL_WIDTH = 44


@contextmanager
def step(label: str) -> Iterator[None]:
    """Print `label` and, when the block ends, how long it took or that it failed."""
    started = time.monotonic()
    outcome = "failed after"
    try:
        yield
        outcome = ""
    finally:
        elapsed = f"{outcome} {time.monotonic() - started:.1f} s".strip()
        print(f"guest: {label:{_LABEL_WIDTH}} {elapsed}", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Print one line that has no duration."""
    print(f"guest: {text}", file=sys.stderr, flush=True)
