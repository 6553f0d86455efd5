"""A sandbox without containerd above it: the shim's binary and its socket, used as containerd's runtime manager does.

containerd checks what it is asked for, so much bad input never reaches a shim through it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from protos import anys
from protos.gen.containerd.task.v2 import (
    CreateTaskRequest,
    DeleteRequest,
    DeleteResponse,
    ExecProcessRequest,
    KillRequest,
    ShutdownRequest,
    StartRequest,
    TaskStub,
    WaitRequest,
)
from protos.gen.containerd.types import Mount
from protos.gen.runtimeoptions.v1 import Options
from protos.gen.wellknown import Any as Packed
from sandbox.rundir import run_dir_for
from tests.harness import bundles, shim_binary
from tests.harness.shim_binary import ShimBinary

_CRI = "io.kubernetes.cri."

#: Seconds for a call that has to wait for the guest.
CALL_TIMEOUT = 20.0
#: Seconds for a cold start.
BOOT_TIMEOUT = 60.0


class Direct:
    """Bundles in a directory, and calls with as few arguments as possible. Life: made, used, `sweep`."""

    def __init__(self, shim: ShimBinary, directory: Path, rootfs: Path, configuration: Path) -> None:
        self.shim = shim
        self.directory = directory
        self.rootfs = rootfs
        self.configuration = configuration
        self.options = packed_options(configuration)
        self._bundles: list[bundles.Bundle] = []
        self._started: list[str] = []

    def bundle(self, container: str, config: Mapping[str, Any] | None) -> Path:
        """A bundle with this config.json, or with none."""
        one = bundles.Bundle(self.directory / container, config)
        self._bundles.append(one)
        return one.path

    def start(self, container: str, *command: str, annotations: Mapping[str, str] | None = None) -> str:
        """Make a bundle, run `start` in it, and return the address that it prints."""
        self.bundle(container, bundles.spec(command or ("sleep", "1000"), annotations))
        return self.start_bundle(container)

    def start_bundle(self, container: str) -> str:
        """Run `start` in a bundle that is there; returns the address that it prints."""
        self.will_sweep(container)
        return self.shim.start(container, self.directory / container).check().text

    def will_sweep(self, container: str) -> None:
        """Remember a sandbox, so that `sweep` ends what is left of it."""
        self._started.append(container)

    def member(self, container: str, pod: str, *command: str) -> CreateTaskRequest:
        """A bundle of a pod's container, and the request to create it."""
        annotations = {_CRI + "container-type": "container", _CRI + "sandbox-id": pod}
        self.bundle(container, bundles.spec(command or ("sleep", "1000"), annotations))
        return self.request(container)

    def request(self, container: str, **fields: Any) -> CreateTaskRequest:
        """The request to create a container whose root is busybox; `fields` are further fields."""
        root = Mount(type="bind", source=str(self.rootfs), options=["rbind", "ro"])
        base = {"bundle": str(self.directory / container), "rootfs": [root], "options": self.options}
        return CreateTaskRequest(id=container, **(base | fields))

    def run_dir(self, sandbox: str) -> Path:
        """The sandbox' run directory."""
        return run_dir_for(str(self.shim.containerd), self.shim.namespace, sandbox)

    def sweep(self) -> None:
        """End with `delete` whatever is left of the sandboxes that were started here."""
        for sandbox in self._started:
            self.shim.delete(sandbox, self.directory / sandbox)
        for one in self._bundles:
            one.close()


def packed_options(configuration: Path) -> Packed:
    """The options of a task that name a configuration file."""
    return anys.pack(Options(config_path=str(configuration)))


def pod_annotations(pod: str) -> dict[str, str]:
    """What CRI writes into the spec of a pod's own container."""
    return {_CRI + "container-type": "sandbox", _CRI + "sandbox-id": pod}


def exec_request(container: str, exec_id: str, command: Sequence[str], **fields: Any) -> ExecProcessRequest:
    """The request to register a further process."""
    process = bundles.spec(command)["process"]
    packed = Packed(type_url=anys.PROCESS_URL, value=json.dumps(process).encode())
    return ExecProcessRequest(id=container, exec_id=exec_id, spec=packed, **fields)


async def start(task: TaskStub, container: str, exec_id: str = "") -> None:
    """Start, with a deadline."""
    await task.start(StartRequest(id=container, exec_id=exec_id), timeout=CALL_TIMEOUT)


async def end(task: TaskStub, container: str) -> DeleteResponse:
    """Kill a container, wait for its end and delete it."""
    await task.kill(KillRequest(id=container, signal=9, all=True), timeout=CALL_TIMEOUT)
    await task.wait(WaitRequest(id=container), timeout=CALL_TIMEOUT)
    return await task.delete(DeleteRequest(id=container), timeout=CALL_TIMEOUT)


async def shut_down(task: TaskStub) -> None:
    """Ask the daemon to go; it may hang up before it has answered."""
    await task.shutdown(ShutdownRequest(id=""), timeout=CALL_TIMEOUT)


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[TaskStub]:
    """A connection to the shim at an address that `start` printed."""
    async with shim_binary.connect(address) as task:
        yield task
