"""Contract: what `kata-ctl cache` is told by a server that is about to end is no answer, and says so."""

from __future__ import annotations

import os

import pytest
from grpclib.exceptions import StreamTerminatedError

from protos.gen.cache import CacheServiceStub, GrpcStatus, GrpcVmStatus
from sandbox.cache import main

pytestmark = pytest.mark.anyio


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that were sent a signal."""
    pids: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: pids.append(pid))
    return pids


async def test_a_server_that_hangs_up_is_no_process_to_be_signalled(monkeypatch, tmp_path, signalled):
    async def status(*_: object, **__: object) -> GrpcStatus:
        raise StreamTerminatedError("Connection lost")

    monkeypatch.setattr(CacheServiceStub, "status", status)

    with pytest.raises(main.CommandError, match=r"the server at .*/s has hung up"):
        await main._drain(tmp_path / "s")

    assert not signalled


async def test_a_server_that_hangs_up_when_told_to_quit_has_understood(monkeypatch, tmp_path):
    async def quit_(*_: object, **__: object) -> None:
        raise StreamTerminatedError("Connection lost")

    monkeypatch.setattr(CacheServiceStub, "quit", quit_)

    assert await main._ask(tmp_path / "s", is_quit=True) == GrpcStatus()


async def test_a_cache_that_does_not_get_empty_is_told(monkeypatch, tmp_path, signalled):
    async def status(*_: object, **__: object) -> GrpcStatus:
        return GrpcStatus(pid=4242, vmstatus=[GrpcVmStatus(pid=4243)])

    monkeypatch.setattr(CacheServiceStub, "status", status)
    monkeypatch.setattr(main, "END_TIMEOUT", 0.01)

    with pytest.raises(main.CommandError, match=r"not empty after 0\.01 s"):
        await main._drain(tmp_path / "s")

    assert signalled == [4242]
