"""A pod's VM made through ctr, whose containers may have any OCI spec: many tests, one boot.

ctr knows no pods; the annotations that CRI would set make its containers members of one.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from protos.gen.containerd.task.v2 import TaskStub
from tests.harness import processes, shim_binary
from tests.harness.bed import Bed
from tests.harness.command import Result
from tests.harness.ctr import Ctr
from tests.harness.images import BUSYBOX
from tests.harness.waiting import eventually
from tests.integration.system import specs

#: A container that stays until it is killed, and ends at once on SIGTERM.
STAY = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done")

_NULL_IO = ("--detach", "--null-io")


class Vm:
    """Life: made, `boot`, containers in it, `remove`. `id` is the pod's, and of the container that stands for it."""

    def __init__(self, bed: Bed, pod: str, namespace: str = "default") -> None:
        self.bed = bed
        self.id = pod
        self.namespace = namespace
        self.ctr: Ctr = bed.ctr(namespace)
        self.root = bed.directory / "rootfs"
        self._specs = bed.directory / "specs"
        self._numbers = itertools.count(1)

    def boot(self, *options: str) -> None:
        """Start the VM with the pod's own container, which stays. Raises `CommandError`."""
        specs.unpack_root(self.root)
        self._specs.mkdir(exist_ok=True)
        flags = (*_NULL_IO, *_annotation_flags("sandbox", self.id), *options)
        self.ctr.run(self.id, *STAY, options=flags).check()

    def remove(self) -> None:
        """End the pod and remove its own container."""
        self.ctr.remove(self.id)

    @property
    def annotation_flags(self) -> list[str]:
        """What makes a container that `ctr run` starts a member of this pod."""
        return _annotation_flags("container", self.id)

    def new_id(self) -> str:
        """An id for a container or an exec that none had before."""
        return f"{self.id}-{next(self._numbers)}"

    def run(
        self, *command: str, options: Sequence[str] = (), image: str = BUSYBOX, stdin: bytes = b"", container: str = ""
    ) -> Result:
        """A container from `image` in the foreground, to its end."""
        flags = ("--rm", *self.annotation_flags, *options)
        return self.ctr.run(container or self.new_id(), *command, options=flags, image=image, stdin=stdin)

    def run_spec(self, *command: str, stdin: bytes = b"", container: str = "", **settings: Any) -> Result:
        """A container with a spec of its own in the foreground, to its end; `settings` are those of `specs.spec`."""
        return self.ctr.run_spec(container or self.new_id(), self.write_spec(command, **settings), stdin=stdin)

    def write_spec(self, command: Sequence[str], **settings: Any) -> Path:
        """The file with a spec for a container of this pod."""
        settings["annotations"] = specs.pod_annotations("container", self.id) | settings.get("annotations", {})
        path = self._specs / f"{self.new_id()}.json"
        root = settings.pop("root", self.root)
        path.write_text(json.dumps(specs.spec(command, root, **settings)))
        return path

    @contextmanager
    def container(self, *command: str, **settings: Any) -> Iterator[str]:
        """Id of a container that runs beside the body, with a spec of its own (see `run_spec`)."""
        container = self.new_id()
        self.ctr.run_spec(container, self.write_spec(command or STAY, **settings), options=_NULL_IO).check()
        try:
            yield container
        finally:
            self.ctr.remove(container)

    @contextmanager
    def image_container(self, *command: str, options: Sequence[str] = (), image: str = BUSYBOX) -> Iterator[str]:
        """Id of a container that runs beside the body, from `image`."""
        container = self.new_id()
        flags = (*_NULL_IO, *self.annotation_flags, *options)
        self.ctr.run(container, *(command or STAY), options=flags, image=image).check()
        try:
            yield container
        finally:
            self.ctr.remove(container)

    def exec(self, container: str, *command: str, options: Sequence[str] = (), stdin: bytes = b"") -> Result:
        """A further process in the foreground, to its end."""
        return self.ctr.exec(container, *command, exec_id=self.new_id(), options=options, stdin=stdin)

    def exit_code(self, container: str) -> int:
        """Wait for the end of a container's task, delete that, and return its exit code."""
        eventually(lambda: self.ctr.tasks().get(container) == "STOPPED", f"{container} stops", timeout=30)
        said = self.ctr.delete(container).check().error_text
        found = re.search(r"exit with non-zero exit code (\d+)", said)
        return int(found[1]) if found else 0

    def bundle(self, container: str) -> Path:
        """containerd's bundle of a container."""
        return self.bed.directory / "state" / "io.containerd.runtime.v2.task" / self.namespace / container

    @asynccontextmanager
    async def task(self) -> Any:
        """A Task client on the shim's own socket, beside containerd's."""
        async with shim_binary.connect((self.bundle(self.id) / "address").read_text()) as client:
            stub: TaskStub = client
            yield stub

    def daemon(self) -> processes.Process:
        """The shim's daemon."""
        (found,) = processes.find(rf"-namespace {self.namespace} -id {self.id} ", self.bed.containerd.processes())
        return found


def _annotation_flags(kind: str, pod: str) -> list[str]:
    return [word for item in specs.pod_annotations(kind, pod).items() for word in ("--annotation", "=".join(item))]
