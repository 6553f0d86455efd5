"""A pod whose containers are made on the shim's own Task service, with all that containerd may give them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from protos.gen.containerd.task.v2 import (
    CreateTaskRequest,
    DeleteRequest,
    KillRequest,
    StartRequest,
    TaskStub,
    WaitRequest,
)
from protos.gen.containerd.types import Mount
from tests.harness.bed import Bed
from tests.harness.ctr import Ctr
from tests.integration.system import specs
from tests.integration.system.task import Exec
from tests.integration.system.vm import Vm

#: Seconds for a container to come to its end: it may have to load drivers on a slow machine.
PATIENCE = 90.0


def configured(bed: Bed, directory: Path, drop_in: str) -> Ctr:
    """A ctr whose containers run under the bed's configuration with a drop-in."""
    configuration = directory / "kata" / "configuration.toml"
    (configuration.parent / "config.d").mkdir(parents=True, exist_ok=True)
    configuration.write_text(bed.configuration.read_text())
    (configuration.parent / "config.d" / "50-test.toml").write_text(drop_in)
    return Ctr(bed.socket, bed.runtime, configuration=configuration)


class DiskPod(Vm):
    """A `Vm` with containers of its own making; `directory` is where they have their bundles."""

    def __init__(self, bed: Bed, pod: str, ctr: Ctr, directory: Path) -> None:
        super().__init__(bed, pod)
        self.ctr = ctr
        self.directory = directory

    @asynccontextmanager
    async def made(self, *command: str, rootfs: Sequence[Mount] = (), **settings: Any) -> AsyncIterator[MadeContainer]:
        """A container that is created, and deleted at the end; `settings` are those of `specs.spec`."""
        async with self.task() as task:
            container = MadeContainer(task, self, self.new_id(), command, rootfs, settings)
            await container.create()
            try:
                yield container
            finally:
                await container.delete()

    async def output(self, *command: str, rootfs: Sequence[Mount] = (), **settings: Any) -> str:
        """What a container wrote to its end, which must be a good one."""
        async with self.made(*command, rootfs=rootfs, **settings) as container:
            await container.start()
            status = await container.wait()
            assert status == 0, f"{command} ended with {status}: {container.text()}"
            return container.text()

    def open_in_vm(self, path: Path) -> bool:
        """Whether the VM's process has the file at `path` open."""
        wanted = os.stat(path)
        for link in Path(f"/proc/{self.vm_pid}/fd").iterdir():
            try:
                found = link.stat()
            except FileNotFoundError:
                continue
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
        return False

    def empty_dir(self, name: str) -> Path:
        """The place of an emptyDir of this pod, as the kubelet makes it."""
        place = self.directory / "kubelet/pods/uid/volumes/kubernetes.io~empty-dir" / name
        place.mkdir(parents=True)
        place.chmod(0o777)
        return place

    @property
    def vm_pid(self) -> int:
        """Process id of the VM."""
        rows = self.ctr("task", "list").check().text.splitlines()[1:]
        return next(int(row.split()[1]) for row in rows if row.split()[0] == self.id)


class MadeContainer:
    """A container on the Task service."""

    def __init__(
        self,
        task: TaskStub,
        pod: DiskPod,
        container: str,
        command: Sequence[str],
        rootfs: Sequence[Mount],
        settings: dict[str, Any],
    ) -> None:
        self.id = container
        self._task = task
        self._pod = pod
        self._rootfs = list(rootfs)
        self._bundle = pod.directory / container
        self._bundle.mkdir()
        settings["annotations"] = specs.pod_annotations("container", pod.id)
        root = settings.pop("root", pod.root)
        (self._bundle / "config.json").write_text(json.dumps(specs.spec(command, root, **settings)))
        self._output = self._bundle / "output"

    async def create(self) -> None:
        """`Create`; raises `GRPCError`."""
        uri = f"file://{self._output}"
        request = CreateTaskRequest(id=self.id, bundle=str(self._bundle), rootfs=self._rootfs, stdout=uri, stderr=uri)
        await asyncio.wait_for(self._task.create(request), PATIENCE)

    async def start(self) -> None:
        """`Start`."""
        await self._task.start(StartRequest(id=self.id))

    async def wait(self) -> int:
        """Its exit status, when it has ended."""
        return (await asyncio.wait_for(self._task.wait(WaitRequest(id=self.id)), PATIENCE)).exit_status

    async def exec(self, *command: str) -> str:
        """A further process to its end, which must be a good one; what it wrote."""
        output = self._bundle / self._pod.new_id()
        process = Exec(self._task, self.id, output.name, *command, stdout=f"file://{output}", stderr=f"file://{output}")
        status = await process.run()
        text = output.read_text()
        assert status == 0, f"{command} ended with {status}: {text}"
        return text

    async def delete(self) -> None:
        """Kill it if it runs, and `Delete`."""
        try:
            await self._task.kill(KillRequest(id=self.id, signal=9))
            await self.wait()
        except GRPCError as error:
            # It has ended, or was never started.
            if error.status is not Status.NOT_FOUND:
                raise
        await self._task.delete(DeleteRequest(id=self.id))

    def text(self) -> str:
        """What it has written."""
        return self._output.read_text() if self._output.exists() else ""
