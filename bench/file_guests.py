"""The two guests of the file benchmark: a pod with a shared directory and a disk, and the same without us.

The bare one has the command lines of the pod's own QEMU and virtiofsd. Its disk has the options of the pod's, which was
plugged in. A few calls of its agent run the reader in a container, as the pod has one: what a container costs the guest
is no part of what we add.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_client.client import AgentClient
from bench.bare_qemu import command_of, floor_command, launched, listening
from bench.bare_virtiofsd import share as shared
from hypervisor.hotplug import addresses
from hypervisor.hotplug.disks import DiskImage, DiskSettings, front_end, node
from hypervisor.hotplug.slots import PciSlot, PciSlots
from protos.gen import grpc as pb
from sandbox.sharing.virtiofs import DRIVER
from tests.harness.command import run
from tests.harness.ctr import Ctr
from tests.harness.live_guest import SHARED, STANDING, process, spec

#: How the pod's disk is attached, by its configuration, and so the other one's.
SETTINGS = DiskSettings(bus="virtio-blk", aio="threads")
CONFIGURATION = 'block_device_driver = "virtio-blk"\nblock_device_aio = "threads"\n'

READER = "reader.py"
_TIMEOUT = 120.0
_DATA = "/data"
_DISK = "/dev/data"

#: The host's interpreter, which a container without a distribution has by way of the host's /usr.
_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_INTERPRETER = "/usr/bin/python3"
_READER = (
    f"{_LIBRARIES}/ld-linux-x86-64.so.2",
    "--library-path",
    _LIBRARIES,
    _INTERPRETER,
    "-ISB",
    f"{_DATA}/{READER}",
)


@dataclass(frozen=True)
class Guest:
    """A guest's reader, and where it finds the file: in the shared directory, and as a disk."""

    ask: Callable[[str], Awaitable[str]]
    share: str = _DATA
    disk: str = _DISK

    async def seconds(self, kind: str, path: str, *numbers: int) -> float:
        """How long a reading took (see `file_reader`); raises `RuntimeError` with what the guest says instead."""
        answer = (await self.ask(f"{kind} {path} {' '.join(map(str, numbers))}\n")).strip()
        if not re.fullmatch(r"[0-9.]+(e-?[0-9]+)?", answer):
            raise RuntimeError(f"the guest's reader failed: {answer or 'it is gone'}")
        return float(answer)


@contextmanager
def pod(ctr: Ctr, name: str, directory: Path, disk: Path) -> Iterator[Guest]:
    """A pod with the reader as its container; it is gone at the end, whatever has happened."""
    mounts = {directory: _DATA, "/usr": "/usr"}
    options = ["--device", str(disk)]
    for source, place in mounts.items():
        options += ["--mount", f"type=bind,src={source},dst={place},options=rbind:ro"]
    words = ctr.run_arguments(name, *_READER, options=options)
    client = subprocess.Popen(ctr.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def asked(line: str) -> str:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(line.encode())
        client.stdin.flush()
        return client.stdout.readline().decode(errors="replace")

    try:
        yield Guest(lambda line: asyncio.to_thread(asked, line), disk=str(disk))
    finally:
        client.kill()
        client.communicate()
        if name in ctr.containers():
            ctr.remove(name)


@asynccontextmanager
async def bare(name: str, scratch: Path, directory: Path, disk: Path) -> AsyncIterator[Guest]:
    """The same without us; `name` is the running pod that it takes after. Makes directories in the shared one."""
    _make_root(directory / "rootfs")
    path = scratch / "agent"
    with ExitStack() as stack:
        share = stack.enter_context(shared(name, scratch, directory))
        listener = stack.enter_context(listening(path))
        command = [*floor_command(command_of(name), listener.fileno(), share), *_disk_options(disk)]
        stack.enter_context(launched(command, scratch / "qemu.log", [listener.fileno()]))
        listener.close()
        agent = await AgentClient.connect(f"serial://{path}", timeout=_TIMEOUT)
        stack.callback(agent.close)
        await _run_reader(agent)
        yield Guest(lambda line: _asked(agent, line))


def _make_root(root: Path) -> None:
    """What a container needs, and the parts of the host's /usr that the interpreter does."""
    for place in ("data", "dev", "proc", "sys/fs/cgroup"):
        (root / place).mkdir(parents=True)
    linked = re.findall(r"(/\S+) \(0x", run("ldd", _INTERPRETER, timeout=20).check().text)
    for source in (Path(_INTERPRETER), *(Path(_LIBRARIES, Path(each).name) for each in linked)):
        copy = root / source.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    library = Path(os.__file__).parent
    shutil.copytree(library, root / library.relative_to("/"), ignore=shutil.ignore_patterns("test", "lib-dynload"))


async def _run_reader(agent: AgentClient) -> None:
    """The pod's container, as far as the reader goes."""
    storage = pb.Storage(driver=DRIVER, source="kataShared", fstype="virtiofs", mount_point=SHARED)
    await agent.create_sandbox(sandbox_id="bare", hostname="bare", storages=[storage])
    oci = spec(process(*_READER))
    oci.mounts.append(pb.Mount(destination=_DATA, type="bind", source=SHARED, options=["rbind", "ro"]))
    assert oci.linux is not None
    # The agent puts its own numbers in place of these.
    oci.linux.devices.append(pb.LinuxDevice(path=_DISK, type="b", major=1, minor=1, file_mode=0o600))
    assert oci.linux.resources is not None
    oci.linux.resources.devices.append(pb.LinuxDeviceCgroup(allow=True, type="b", major=1, minor=1, access="r"))
    device = pb.Device(id=_slot().path, type="blk", container_path=_DISK)
    await agent.create_container(container_id=STANDING, devices=[device], oci=oci)
    await agent.start_container(STANDING)


async def _asked(agent: AgentClient, line: str) -> str:
    await agent.write_stdin(STANDING, "", line.encode())
    answer = b""
    while not answer.endswith(b"\n"):
        data = await agent.read_stdout(STANDING, "", 4096)
        if not data:
            break
        answer += data
    return answer.decode(errors="replace")


def _slot() -> PciSlot:
    """Where the bare guest's disk is."""
    return PciSlots(1).take("data")


def _disk_options(disk: Path) -> list[str]:
    """A disk as it is plugged into a pod, as options of a QEMU that is started."""
    image = DiskImage(disk, is_device=True, read_only=False)
    place = addresses.pci(_slot())
    device = {"driver": place.front_end, "id": "data-dev", **front_end("data", image, SETTINGS), **place.properties}
    return ["-blockdev", json.dumps(node("data", image, SETTINGS)), "-device", json.dumps(device)]
