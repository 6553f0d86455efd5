"""Fixtures of the ttrpc tests: every async test here runs on both event loops."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Async tests run on asyncio, as in the guest, and on uvloop, as in the daemon."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Where a test may bind a UNIX socket: a short path, for the kernel takes 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ttrpc-") as directory:
        yield Path(directory) / "s"
