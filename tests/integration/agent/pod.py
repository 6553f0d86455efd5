"""A pod with the real guest, made by the real `Sandbox` in this process, so that its agent's connection is at hand.

To be used in a mount namespace of its own. The container's root file system is the host's /usr, and the project.
"""

from __future__ import annotations

import asyncio
import json
import sysconfig
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import config
from agent_client.client import AgentClient
from sandbox import rundir
from sandbox.interface import CreateRequest, ExecRequest, SandboxIdentity, StdioUris
from sandbox.sandbox import Sandbox
from tests.harness import paths

#: Seconds for anything the guest is asked to do, under emulation and beside other tests.
PATIENCE = 120.0
#: Enough for the container's Python.
MEMORY_LIMIT = 160 << 20

_MOUNTS = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
)
_PROJECT, _SITE = "/project", "/site-packages"
_BINDS = {"/usr": "/usr", _PROJECT: str(paths.PROJECT), _SITE: sysconfig.get_path("purelib")}
_ENV = ["PATH=/usr/bin", f"PYTHONPATH={_PROJECT}:{_SITE}", "PYTHONDONTWRITEBYTECODE=1"]


class Streams:
    """The host's ends of one process: input from memory, output kept."""

    def __init__(self, stdin: bytes) -> None:
        self.has_stdin = True
        self._stdin = memoryview(stdin)
        self.stdout = bytearray()
        self.stderr = bytearray()
        #: Called with the length of the output so far.
        self.on_output: Callable[[int], None] = lambda length: None
        self.closed = asyncio.Event()

    async def read_stdin(self, size: int) -> bytes:
        data, self._stdin = bytes(self._stdin[:size]), self._stdin[size:]
        return data

    async def write_stdout(self, data: bytes) -> None:
        self.stdout += data
        self.on_output(len(self.stdout))

    async def write_stderr(self, data: bytes) -> None:
        self.stderr += data

    def close_stdin(self) -> None:
        self._stdin = memoryview(b"")

    async def aclose(self) -> None:
        self.closed.set()


class LivePod:
    """One container, `c1`, that stays, and what is run beside it."""

    def __init__(self, scratch: Path) -> None:
        self.events: list[Any] = []
        self._streams: dict[str, Streams] = {}
        self._next: dict[str, Streams] = {}
        self._scratch = scratch
        self._count = 0
        settings = guest_settings()
        identity = SandboxIdentity("c1", "default", str(scratch / "containerd"), scratch / "socket")
        self.sandbox = Sandbox(
            identity, open_stdio=self._open_stdio, publish=self.events.append, load_config=lambda _: settings
        )

    @property
    def agent(self) -> AgentClient:
        """The client of its agent."""
        return self.sandbox.pod.require_machine().agent

    async def start(self) -> None:
        """Boot the VM and run the container."""
        bundle = self._scratch / "bundle"
        for name in ("proc", "dev", "tmp", "sys", *(path[1:] for path in _BINDS)):
            (bundle / "rootfs" / name).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (bundle / "rootfs" / name).symlink_to(f"usr/{name}")
        binds = [
            {"destination": place, "type": "bind", "source": source, "options": ["rbind", "ro"]}
            for place, source in _BINDS.items()
        ]
        spec = {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"args": ["sleep", "100000"], "cwd": "/", "env": _ENV},
            "mounts": [*_MOUNTS, *binds],
            "linux": {
                "namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount", "network")],
                "resources": {"memory": {"limit": MEMORY_LIMIT}},
            },
        }
        (bundle / "config.json").write_text(json.dumps(spec))
        await self.sandbox.create(CreateRequest("c1", bundle), PATIENCE)
        await self.sandbox.start("c1", "")

    async def begin(self, *command: str, stdin: bytes = b"") -> tuple[str, Streams]:
        """Run a command in the container; its id, and its streams."""
        self._count += 1
        exec_id = f"e{self._count}"
        streams = self._next[exec_id] = Streams(stdin)
        process = {"args": list(command), "cwd": "/", "env": _ENV}
        await self.sandbox.exec(
            ExecRequest("c1", exec_id, json.dumps(process).encode(), StdioUris(stdin="in", stdout=exec_id))
        )
        await self.sandbox.start("c1", exec_id)
        return exec_id, streams

    async def run(self, *command: str, stdin: bytes = b"") -> tuple[int, bytes]:
        """Run a command to its end; status and output."""
        exec_id, streams = await self.begin(*command, stdin=stdin)
        status = await self.end(exec_id)
        return status, bytes(streams.stdout) or bytes(streams.stderr)

    async def end(self, exec_id: str) -> int:
        """Wait for the end of what `begin` began."""
        async with asyncio.timeout(PATIENCE):
            return (await self.sandbox.wait("c1", exec_id)).exit_status

    async def _open_stdio(self, container_id: str, uris: StdioUris) -> Streams:
        return self._next.pop(uris.stdout, None) or Streams(b"")


def guest_settings() -> config.Config:
    """The private installation's configuration, over virtio-serial, with an agent that lets the guest's own in."""
    settings = config.load(paths.CONFIGURATION)
    hypervisor = replace(
        settings.hypervisor,
        kernel_params=f"{settings.hypervisor.kernel_params} agent.devmode",
        default_memory=1024,
        agent_channel="virtio-serial",
    )
    return replace(settings, hypervisor=hypervisor)


@asynccontextmanager
async def live_pod(scratch: Path) -> AsyncIterator[LivePod]:
    """A started pod, gone in the end; its run directory is in `scratch`."""
    rundir.ROOT = scratch / "run"
    pod = LivePod(scratch)
    async with pod.sandbox:
        await pod.start()
        yield pod
