"""Run directories as pods leave them, and pods that answer on their sockets."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from ctl.pods import PodEntry
from sandbox import rundir
from shim.management import server
from shim.management.http import Request, Response
from shim.management.paths import socket_in

#: What the daemon journals once a sandbox is up.
STARTED = {
    "pod": {"name": "web-1", "namespace": "shop", "uid": "u-1"},
    "vm": {"vcpus": 2, "memory_mib": 512, "accelerator": "tcg", "debug": True, "kernel": ""},
    "start": {"kind": "cold", "at": 1.0, "total": 4.0, "durations": {"vm": 0.5, "agent": 3.0, "guest": 0.01}},
}

MakePod = Callable[..., PodEntry]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Parent of the run directories; short, because sockets' paths must be."""
    path = Path(tempfile.mkdtemp(prefix="ctl-", dir="/tmp"))
    monkeypatch.setattr(rundir, "ROOT", path)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make_pod(root: Path) -> MakePod:
    """Makes the run directory of a pod whose processes are this one."""

    def make(sandbox_id: str, *, mark: str = "00000001", **facts: Any) -> PodEntry:
        run_dir = root / f"{sandbox_id}-{mark}"
        run_dir.mkdir()
        (run_dir / "lock").touch()
        this = {"pid": os.getpid(), "start_time": rundir.start_time(os.getpid())}
        journal = {
            "version": 1,
            "sandbox_id": sandbox_id,
            "namespace": "k8s.io",
            "processes": {"daemon": this, "qemu": this},
            "started": STARTED,
        }
        journal |= facts
        (run_dir / "state.json").write_text(json.dumps(journal))
        return PodEntry(run_dir, journal, rundir.living(journal), 0.0)

    return make


@asynccontextmanager
async def answering(pod: PodEntry, answer: str | None, status: int = 200) -> AsyncIterator[None]:
    """Serve a pod's socket with one answer; None never answers."""

    async def handle(_: Request) -> Response:
        if answer is None:
            await anyio.sleep_forever()
        return Response(str(answer).encode(), status)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_in(pod.run_dir)))
        listener.listen()
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, listener, handle)
            yield
            group.cancel_scope.cancel()
