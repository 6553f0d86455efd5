"""A pod on fakes, with its management socket."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shim.management.pod import management
from tests.fakes.world import World
from tests.unit.sandbox.conftest import no_mounts, vm_settings, world

__all__ = ["no_mounts", "vm_settings", "world"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Short, because sockets' paths must be."""
    path = Path(tempfile.mkdtemp(prefix="mgmt-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def managed(world: World) -> AsyncIterator[World]:
    """The world, whose pod serves its management socket."""
    async with management(world.sandbox.pod):
        yield world
