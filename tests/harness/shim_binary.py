"""A shim binary run as containerd runs it: `start`, `delete`, and a ttrpc client on the address that it prints."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protos.codec import MessageCodec
from protos.gen.containerd.task.v2 import TaskStub
from shim.forkserver import client
from tests.harness import processes
from tests.harness.command import Result, run
from tests.harness.waiting import eventually
from ttrpc.client import Channel

#: Variables that a user's containerd does not have and that change what a Python or Go shim does.
_REMOVED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONUNBUFFERED", "TTRPC_ADDRESS")


@dataclass(frozen=True)
class ShimBinary:
    """A shim and the containerd it belongs to; `containerd` is that one's gRPC socket, which need not be alive."""

    binary: Path
    containerd: Path
    namespace: str = "harness"

    def environment(self) -> dict[str, str]:
        """What containerd 1.6 sets for its shims."""
        inherited = {key: value for key, value in os.environ.items() if key not in _REMOVED}
        return {
            **inherited,
            "GOMAXPROCS": "2",
            "TTRPC_ADDRESS": f"{self.containerd}.ttrpc",
            client.SWITCH: str(self.containerd),
        }

    def command(self, container: str, *action: str) -> list[str]:
        """The command line of containerd 1.6 to 2.x."""
        flags = [
            "-namespace",
            self.namespace,
            "-address",
            str(self.containerd),
            "-publish-binary",
            "/usr/bin/containerd",
        ]
        return [str(self.binary), *flags, "-id", container, *action]

    def start(self, container: str, bundle: Path, options: bytes = b"", timeout: float = 30.0) -> Result:
        """`start` in `bundle`, with `options` on standard input; standard output holds the address."""
        command = self.command(container, "start")
        return run(*command, timeout=timeout, stdin=options, env=self.environment(), cwd=bundle)

    def delete(self, container: str, bundle: Path, timeout: float = 30.0) -> Result:
        """`delete` for `bundle`, which need not exist any more; standard output holds a DeleteResponse."""
        command = self.command(container, "-bundle", str(bundle), "delete")
        cwd = bundle if bundle.is_dir() else None
        return run(*command, timeout=timeout, env=self.environment(), cwd=cwd)

    def daemons(self, container: str) -> list[processes.Process]:
        """The daemons that `start` left behind for `container`."""
        return processes.find(rf"-id {container}( |$)")

    def kill_daemons(self, container: str, timeout: float = 30.0) -> None:
        """SIGKILL them, and wait until they are gone."""
        for one in self.daemons(container):
            os.kill(one.pid, signal.SIGKILL)
        eventually(lambda: not self.daemons(container), f"the daemon of {container} is gone", timeout)


def socket_of(address: str) -> Path:
    """The path in an address as `start` prints it; raises `ValueError` for any other text."""
    scheme, separator, path = address.strip().partition("://")
    if scheme != "unix" or not separator or not path.startswith("/"):
        raise ValueError(f"not the address of a shim: {address[:200]!r}")
    return Path(path)


@asynccontextmanager
async def connect(address: str, timeout: float = 30.0) -> AsyncIterator[TaskStub]:
    """A task client on the shim at `address` (`unix:///run/containerd/s/...`)."""
    channel = await Channel.connect_unix(socket_of(address), MessageCodec(), timeout=timeout)
    try:
        # The stubs are written against grpclib's channel, whose place this one takes.
        transport: Any = channel
        yield TaskStub(transport)
    finally:
        channel.close()
        await channel.wait_closed()


def devnull_start(command: list[str], cwd: Path, env: dict[str, str]) -> bytes:
    """Run `start` with little work around it, for timing: no input, all output, as containerd does. `RuntimeError`."""
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd, env=env
    )
    output = child.communicate()[0]
    if child.returncode:
        raise RuntimeError(f"{command[0]}: exit status {child.returncode}: {output.decode(errors='replace')[:500]}")
    return output
