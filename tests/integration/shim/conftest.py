"""A private containerd whose kata runtime is the shim with a fake pod, and the real shim beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.command import Result, run
from tests.harness.containerd import Containerd
from tests.harness.containerd_version import program, search_path
from tests.harness.waiting import eventually
from tests.unit.shim.place import ShimPlace

_CONFIG = """\
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{root}/c.sock"
[ttrpc]
  address = "{root}/c.sock.ttrpc"
[debug]
  level = "debug"
"""


class FakeRuntime:
    """containerd and ctr, with the shim of a `ShimPlace` behind `io.containerd.kata.v2`."""

    def __init__(self, place: ShimPlace) -> None:
        self.place = place
        self.root = place.root
        self.socket = place.root / "c.sock"
        place.address = str(self.socket)
        programs = place.root / "bin"
        programs.mkdir()
        shutil.copy(place.binary, programs / "containerd-shim-kata-v2")
        config = place.root / "config.toml"
        config.write_text(_CONFIG.format(root=place.root))
        (place.root / "rootfs").mkdir()
        self.log = place.root / "containerd.log"
        path = search_path(programs, os.environ["PATH"])
        self.containerd = Containerd(config, self.socket, self.log, path, {})

    def ctr(self, *arguments: str, stdin: bytes = b"", timeout: float = 30) -> Result:
        """Run ctr against this containerd."""
        return run(program("ctr"), "-a", self.socket, *arguments, stdin=stdin, timeout=timeout)

    def run(self, container_id: str, *args: str, options: tuple[str, ...] = ("--rm",), stdin: bytes = b"") -> Result:
        """`ctr run` of the fake program `args`."""
        flags = ("--runtime", "io.containerd.kata.v2", "--rootfs", "--fifo-dir", str(self.root / "fifo"))
        return self.ctr("run", *options, *flags, str(self.root / "rootfs"), container_id, *args, stdin=stdin)

    def status(self, container_id: str) -> str:
        """The task's status as ctr prints it; empty if there is none."""
        for line in self.ctr("task", "ls").text.splitlines():
            words = line.split()
            if words and words[0] == container_id:
                return words[2]
        return ""

    def wait_for_status(self, container_id: str, status: str) -> None:
        """Return when the task has this status."""
        eventually(lambda: self.status(container_id) == status, f"{container_id} is {status or 'gone'}")


@pytest.fixture
def place() -> Iterator[ShimPlace]:
    """A private place for the real shim."""
    one = ShimPlace(Path(tempfile.mkdtemp(prefix="shim-", dir="/tmp")))
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def runtime(place: ShimPlace) -> Iterator[FakeRuntime]:
    """A running containerd."""
    one = FakeRuntime(place)
    one.containerd.start()
    try:
        yield one
    finally:
        place.end_daemons()
        one.containerd.close()
        shutil.rmtree(place.root / "state", ignore_errors=True)
