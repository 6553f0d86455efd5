"""Settings that all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, the daemon's own event loop family."""
    return "asyncio"
