"""A private place for one shim: its binary, its bundles, its sockets, and a daemon with a fake pod behind it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from protos.codec import MessageCodec
from protos.gen.containerd.task.v2 import TaskStub
from shim.launcher import script
from shim.sockets import from_address
from tests.harness.waiting import eventually
from ttrpc.client import Channel

PROJECT = Path(__file__).resolve().parents[3]

# The daemon with the fake pod in place of the real one, in the mount namespace of the tests.
_ENTRY = """\
import sys
sys.path.insert(0, {root!r})
from shim.paths import add_import_roots
add_import_roots()
from shim.app import serve
from shim.daemon import run
from tests.fakes.pod import FakePod
run(sys.argv[1:], lambda told, listener: serve(told, listener, FakePod), lambda: None)
"""

# The shim with that daemon.
_LAUNCHER = """\
#!{python} -IS
import sys
sys.path.insert(0, {root!r})
from shim.main import main
main(sys.argv[1:], {entry!r})
"""


class ShimPlace:
    """A directory with a shim binary, bundles, and the sockets of its daemons; everything in it ends with the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sockets = root / "s"
        self.address = str(root / "containerd.sock")
        self.namespace = "test"
        entry = root / "entry.py"
        entry.write_text(_ENTRY.format(root=str(PROJECT)))
        self.binary = root / "shim"
        self.binary.write_text(_LAUNCHER.format(python=sys.executable, root=str(PROJECT), entry=str(entry)))
        self.binary.chmod(0o755)
        self.real_binary = root / "containerd-shim-kata-v2"
        self.real_binary.write_text(script(sys.executable, str(PROJECT)))
        self.real_binary.chmod(0o755)
        self.environment = {
            "PATH": os.environ["PATH"],
            "KATA_SHIM_SOCKET_DIR": str(self.sockets),
            "KATA_SHIM_FORK_SERVER": "off",
        }

    def bundle(
        self, container_id: str, args: Sequence[str] = ("sleep",), annotations: dict[str, str] | None = None
    ) -> Path:
        """A bundle whose process does `args` in the fake pod."""
        path = self.root / "bundles" / container_id
        (path / "rootfs").mkdir(parents=True)
        os.mkfifo(path / "log")
        spec = {"ociVersion": "1.0.2", "process": {"args": list(args)}, "annotations": annotations or {}}
        (path / "config.json").write_text(json.dumps(spec))
        return path

    def command(self, container_id: str, *arguments: str, binary: Path | None = None) -> list[str]:
        """The command line that containerd uses."""
        flags = ["-namespace", self.namespace, "-address", self.address, "-publish-binary", "", "-id", container_id]
        return [str(binary or self.binary), *flags, *arguments]

    def run(
        self, *command: str, cwd: Path | None = None, stdin: bytes = b"", **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a shim as containerd does, with both outputs in one pipe."""
        return subprocess.run(
            command,
            cwd=cwd or self.root,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment | environment,
            timeout=30,
        )

    def start(self, container_id: str, bundle: Path, stdin: bytes = b"", **environment: str) -> str:
        """`start` in `bundle`; returns what it prints."""
        done = self.run(*self.command(container_id, "start"), cwd=bundle, stdin=stdin, **environment)
        assert done.returncode == 0, done.stdout
        return done.stdout.decode(errors="surrogateescape")

    def daemons(self) -> list[int]:
        """Pids of the daemons that were started here and live."""
        pids = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if str(self.root / "entry.py").encode() in arguments:
                pids.append(int(path.parent.name))
        return pids

    def daemon(self) -> int:
        """Pid of the only daemon; a process that was just started may not have its arguments yet."""
        eventually(self.daemons, "there is a daemon")
        (pid,) = self.daemons()
        return pid

    def wait_until_gone(self, timeout: float = 30) -> None:
        """Return when no daemon of this place lives."""
        eventually(lambda: not self.daemons(), "the daemons are gone", timeout)

    def end_daemons(self) -> None:
        """End the daemons in order, so that they take their sockets with them."""
        for pid in self.daemons():
            os.kill(pid, signal.SIGTERM)
        self.wait_until_gone()

    def close(self) -> None:
        """Kill what is left."""
        for pid in self.daemons():
            os.kill(pid, signal.SIGKILL)
        self.wait_until_gone()
        shutil.rmtree(self.root)


@asynccontextmanager
async def task_client(address: str) -> AsyncIterator[TaskStub]:
    """A client of the daemon at an address that `start` printed."""
    channel: Any = await Channel.connect_unix(from_address(address), MessageCodec(), timeout=10)
    try:
        yield TaskStub(channel)
    finally:
        channel.close()
        await channel.wait_closed()
