"""An agent in memory and a client of it, on both event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_client.client import AgentClient
from tests.fakes.agent import PATIENCE, FakeAgent


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The daemon runs on uvloop where there is one, else on asyncio."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[FakeAgent]:
    """A fake agent on a plain UNIX socket."""
    async with FakeAgent(tmp_path / "agent") as fake:
        yield fake


@pytest.fixture
async def client(agent: FakeAgent) -> AsyncIterator[AgentClient]:
    """A client connected to `agent`."""
    connected = await AgentClient.connect(agent.url, timeout=PATIENCE)
    yield connected
    connected.close()
    await connected.wait_closed()
