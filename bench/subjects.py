"""What the benchmarks run: a bed, both shims, and running containers to talk to."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import images, paths
from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.harness.runtimes import KATA, RUNC, Runtime
from tests.harness.shim_binary import ShimBinary

#: Names of the subjects in all tables.
OURS = "containerd-shim-kata-v2"
PEER = "containerd-shim-runc-v2"


@dataclass(frozen=True)
class Context:
    """What every benchmark gets: a bed, a directory of its own, and how thorough to be (1 is the normal effort)."""

    bed: Bed
    directory: Path
    effort: float = 1.0

    def rounds(self, normal: int) -> int:
        """How often to repeat what is normally done `normal` times; at least twice."""
        return max(2, round(normal * self.effort))

    def shims(self) -> dict[str, ShimBinary]:
        """Both shim binaries, for the bed's containerd, in a namespace of their own."""
        peer = shutil.which(RUNC.binary) or f"/usr/bin/{RUNC.binary}"
        return {
            OURS: ShimBinary(paths.SHIM, self.bed.socket, "bench"),
            PEER: ShimBinary(Path(peer), self.bed.socket, "bench"),
        }

    def scratch(self, name: str) -> Path:
        """A new directory with a short path, for guests whose sockets are in it."""
        path = self.directory / name
        path.mkdir(parents=True)
        return path

    def rootfs(self) -> Path:
        """A busybox root directory, made once."""
        root = self.directory / "rootfs"
        if not root.exists():
            base = images.standard_images()[0]
            for layer in base.layers:
                with tarfile.open(fileobj=io.BytesIO(layer.tar())) as archive:
                    archive.extractall(root)
        return root


@dataclass(frozen=True)
class Running:
    """A container under one of the shims, and the address of that shim."""

    container: str
    address: str


@contextmanager
def running_pair(bed: Bed) -> Iterator[dict[str, Running]]:
    """A sleeping container under each shim, made through containerd; both are gone at the end."""
    pair: dict[str, Runtime] = {OURS: KATA, PEER: RUNC}
    clients: list[tuple[Ctr, str]] = []
    found = {}
    try:
        for subject, runtime in pair.items():
            container = f"bench-{runtime.name}"
            client = Ctr(bed.socket, runtime, configuration=bed.configuration if runtime is KATA else None)
            client.run_detached(container, "sleep", "100000")
            clients.append((client, container))
            bundle = bed.directory / "state" / "io.containerd.runtime.v2.task" / "default" / container
            found[subject] = Running(container, (bundle / "address").read_text())
        yield found
    finally:
        for client, container in clients:
            client.remove(container)
