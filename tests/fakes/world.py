"""A pod's surroundings in memory, for tests of the real `Sandbox`: streams, virtiofsd, bundles, recorded events."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from sandbox.interface import CreateRequest, StdioUris
from sandbox.plan import SandboxPlan
from sandbox.resources.hierarchies import HostCgroups
from sandbox.sandbox import Sandbox
from sandbox.sharing.directory import SharedDirectory
from sandbox.sharing.share import Share
from sandbox.sharing.virtiofs import VirtioFsPlan, VirtioFsShare
from tests.fakes.agent import FakeAgent
from tests.fakes.vm import FakeVm

PATIENCE = 5.0


class FakeStdio:
    """Streams in memory."""

    def __init__(self, stdin: bytes | None) -> None:
        self.has_stdin = stdin is not None
        self._stdin = stdin or b""
        self.stdout = b""
        self.stderr = b""
        self.closed = False
        self._stdin_closed = anyio.Event()

    async def read_stdin(self, size: int) -> bytes:
        data, self._stdin = self._stdin[:size], self._stdin[size:]
        if not data:
            await self._stdin_closed.wait()
        return data

    async def write_stdout(self, data: bytes) -> None:
        self.stdout += data

    async def write_stderr(self, data: bytes) -> None:
        self.stderr += data

    def close_stdin(self) -> None:
        self._stdin_closed.set()

    async def aclose(self) -> None:
        self.closed = True


class FakeVirtiofsd:
    """A virtiofsd that does nothing until it is ended."""

    def __init__(self) -> None:
        self.pid = 0
        self.exit_reason: str | None = None
        self._reason = "virtiofsd was killed by SIGKILL"
        self._ended = anyio.Event()

    async def start(self, timeout: float) -> None:
        self.pid = 4243

    async def wait(self) -> str:
        await self._ended.wait()
        return self._reason

    def end(self, reason: str, *, by_itself: bool) -> None:
        """End it; when not by itself, then because QEMU hung up."""
        self._reason = reason
        self.exit_reason = reason if by_itself else None
        self._ended.set()

    def kill(self) -> None:
        self._ended.set()


@dataclass
class World:
    """The pod and everything around it."""

    tmp: Path
    agent: FakeAgent
    vm: FakeVm
    virtiofsd: FakeVirtiofsd = field(default_factory=FakeVirtiofsd)
    events: list[Any] = field(default_factory=list)
    stdio: dict[str, FakeStdio] = field(default_factory=dict)
    stdin: bytes | None = None
    sandbox: Sandbox = None  # type: ignore[assignment]
    #: The host's cgroups, if it has any.
    host_cgroups: HostCgroups | None = None

    async def open_stdio(self, container_id: str, uris: StdioUris) -> FakeStdio:
        stdio = FakeStdio(self.stdin)
        self.stdio[uris.stdout or container_id] = stdio
        return stdio

    def cgroups(self) -> HostCgroups:
        """As `sandbox.resources.hierarchies.of_this_host`."""
        if self.host_cgroups is None:
            raise ValueError("no cgroup hierarchy is mounted")
        return self.host_cgroups

    def bundle(self, container_id: str, kind: str | None = None, pod: str | None = None, **spec: Any) -> CreateRequest:
        path = self.tmp / "bundles" / container_id
        (path / "rootfs").mkdir(parents=True)
        pod = pod or self.sandbox.pod.identity.sandbox_id
        annotations = {"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": pod} if kind else {}
        base = {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"args": ["sh"], "cwd": "/"},
            "annotations": annotations,
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "network")]},
        }
        (path / "config.json").write_text(json.dumps(base | spec))
        return CreateRequest(container_id, path)

    async def single(self, **script: Any) -> None:
        """Create and start container c1."""
        self.agent.on_start("c1", **script)
        await self.sandbox.create(self.bundle("c1"), PATIENCE)
        await self.sandbox.start("c1", "")

    def share(self, plan: SandboxPlan) -> Share:
        """The real share of a plan, with a fake virtiofsd."""
        if isinstance(plan.sharing, VirtioFsPlan):
            return VirtioFsShare(SharedDirectory(plan.sharing.daemon.shared_dir), self.virtiofsd)
        return plan.sharing.make(lambda pid: None)

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]
