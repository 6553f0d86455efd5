"""The one error that the guest builder raises."""

from __future__ import annotations


class BuildError(Exception):
    """The guest cannot be built. The text is one line: what failed, why, and what to do about it."""
