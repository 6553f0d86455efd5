"""Fixtures of the shim's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.shim.place import ShimPlace


@pytest.fixture
def place() -> Iterator[ShimPlace]:
    """A `ShimPlace`; its path is short, because sockets' paths must be."""
    one = ShimPlace(Path(tempfile.mkdtemp(prefix="shim-", dir="/tmp")))
    try:
        yield one
    finally:
        one.close()
