"""One guest for all tests of a module."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.harness import live_guest as live


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a guest and its tests."""
    return "asyncio"


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A directory whose path leaves room for the names of sockets."""
    path = Path(tempfile.mkdtemp(prefix="rpc-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
async def guest(scratch: Path, anyio_backend: str) -> AsyncIterator[live.Live]:
    """A running guest with a container."""
    async with live.running(scratch) as guest:
        yield guest
