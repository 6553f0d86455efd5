"""The real guest without a shim: its agent at hand, and a container of busybox that came by CopyFile.

No virtio-fs and no disk of its own, so that a guest costs no more than its boot.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_client.client import AgentClient
from guest.image import builder
from hypervisor.qemu import QemuVm
from hypervisor.vm import VmSpec
from protos.gen import grpc as pb
from tests.harness import paths

#: Seconds for anything under emulation, beside other tests.
PATIENCE = 90.0
QEMU = Path("/usr/bin/qemu-system-x86_64")
SHARED = "/run/kata-containers/shared/containers"
ROOTFS = f"{SHARED}/rootfs"
#: The container that stays.
STANDING = "standing"
_PIECE = 1 << 20
_BUSYBOX = Path("/bin/busybox")
_MOUNTS = (
    pb.Mount(destination="/proc", type="proc", source="proc"),
    pb.Mount(destination="/dev", type="tmpfs", source="tmpfs", options=["mode=755"]),
    pb.Mount(destination="/dev/pts", type="devpts", source="devpts", options=["newinstance", "ptmxmode=0666"]),
    pb.Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup"),
)
ENV = ("PATH=/bin",)
#: What containerd gives a container that asks for nothing.
_RULES = [pb.LinuxDeviceCgroup(allow=False, access="rwm"), pb.LinuxDeviceCgroup(allow=True, type="c", access="rwm")]


@dataclass
class Output:
    """What a process left."""

    status: int
    stdout: str
    stderr: str


def process(*args: str, **fields: Any) -> pb.Process:
    """A process of root in the container's root directory; `fields` replace what it has."""
    given: dict[str, Any] = {"args": list(args), "env": list(ENV), "cwd": "/", "user": pb.User()}
    return pb.Process(**(given | fields))


def spec(first: pb.Process, **fields: Any) -> pb.Spec:
    """A container with `first` as its init; `fields` replace what it has."""
    linux = pb.Linux(
        namespaces=[pb.LinuxNamespace(type=kind) for kind in ("pid", "mount", "ipc", "uts", "cgroup")],
        resources=pb.LinuxResources(devices=list(_RULES)),
    )
    given: dict[str, Any] = {
        "version": "1.0.2",
        "process": first,
        "root": pb.Root(path=ROOTFS),
        "mounts": list(_MOUNTS),
        "linux": linux,
    }
    return pb.Spec(**(given | fields))


@dataclass
class Live:
    """A running guest with a sandbox."""

    agent: AgentClient
    _count: int = field(default=0)

    def name(self) -> str:
        """An id that was not used before."""
        self._count += 1
        return f"n{self._count}"

    async def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file below the shared directory."""
        await self._copy(path, stat.S_IFREG | mode, data)

    async def link(self, path: str, target: str) -> None:
        """Make a symbolic link there."""
        await self._copy(path, stat.S_IFLNK | 0o777, target.encode())

    async def _copy(self, path: str, mode: int, data: bytes) -> None:
        for offset in range(0, max(1, len(data)), _PIECE):
            await self.agent.storage.copy_file(
                path=path,
                file_size=len(data),
                file_mode=mode,
                dir_mode=0o755,
                uid=0,
                gid=0,
                offset=offset,
                data=data[offset : offset + _PIECE],
            )

    async def make_root(self) -> None:
        """Busybox, under all its names."""
        await self.write(f"{ROOTFS}/bin/busybox", _BUSYBOX.read_bytes(), 0o755)
        listing = await asyncio.create_subprocess_exec(_BUSYBOX, "--list", stdout=asyncio.subprocess.PIPE)
        for name in (await listing.communicate())[0].decode().split():
            if name != "busybox":
                await self.link(f"{ROOTFS}/bin/{name}", "busybox")
        for name in ("proc", "dev", "sys/fs/cgroup", "tmp", "etc"):
            await self.agent.storage.copy_file(
                path=f"{ROOTFS}/{name}", file_size=0, file_mode=stat.S_IFDIR | 0o777, dir_mode=0o755, uid=0, gid=0
            )

    async def run(self, first: pb.Process, **fields: Any) -> Output:
        """A container of its own, from its creation to its removal; `fields` as in `spec`."""
        name = self.name()
        await self.agent.create_container(container_id=name, oci=spec(first, **fields))
        await self.agent.start_container(name)
        output = await self.output(name, "")
        await self.agent.remove_container(name)
        return output

    async def exec(self, further: pb.Process, container: str = STANDING) -> Output:
        """A further process in a container that runs, to its end."""
        name = self.name()
        await self.agent.exec_process(container_id=container, exec_id=name, process=further)
        return await self.output(container, name)

    async def sh(self, script: str, container: str = STANDING) -> str:
        """What a shell script prints in a container that runs; it must end with 0."""
        output = await self.exec(process("sh", "-c", script), container)
        assert output.status == 0, output
        return output.stdout

    async def output(self, container: str, exec_id: str) -> Output:
        """Read a process' output to its end, and wait for it."""
        async with asyncio.timeout(PATIENCE):
            stdout, stderr = await asyncio.gather(
                self._all(self.agent.read_stdout, container, exec_id),
                self._all(self.agent.read_stderr, container, exec_id),
            )
            return Output(await self.agent.wait_process(container, exec_id), stdout, stderr)

    async def _all(self, read: Any, container: str, exec_id: str) -> str:
        data = b""
        while piece := await read(container, exec_id, 1 << 16):
            data += piece
        return data.decode(errors="replace")


@asynccontextmanager
async def booted_vm(
    scratch: Path, initrd: Path | None = None, adapt: Callable[[bytes], bytes] | None = None, **fields: Any
) -> AsyncIterator[QemuVm]:
    """A VM that boots the guest of the present sources; `fields` are those of `VmSpec`.

    With `adapt` its initrd is what that makes of the guest's own, written to the file `initrd`.
    """
    directory = builder.build(paths.BUILD / "guest").directory
    if initrd is not None and adapt is not None:
        initrd.write_bytes(adapt((directory / "kata-initrd.img").read_bytes()))
    run_dir = scratch / "vm"
    run_dir.mkdir(parents=True)
    given: dict[str, Any] = {
        "name": "live",
        "run_dir": run_dir,
        "qemu": QEMU,
        "kernel": directory / "vmlinux",
        "initrd": initrd or directory / "kata-initrd.img",
        "image": directory / "kata-image.erofs",
        "vcpus": 1,
        "memory_mib": 768,
        "accelerator": "tcg",
        "kernel_params": ("cgroup_no_v1=all", "systemd.unified_cgroup_hierarchy=1"),
    }
    vm = QemuVm(VmSpec(**(given | fields)))
    try:
        await vm.start(PATIENCE)
        yield vm
    except BaseException:
        print(vm.diagnostics().console_tail)
        raise
    finally:
        await vm.shutdown(5)


@asynccontextmanager
async def booted(scratch: Path, **fields: Any) -> AsyncIterator[tuple[QemuVm, AgentClient]]:
    """The guest of the present sources with nothing in it, and its agent; `fields` are those of `booted_vm`."""
    async with booted_vm(scratch, **fields) as vm:
        agent = await AgentClient.connect(vm.agent_url, timeout=PATIENCE)
        try:
            yield vm, agent
        finally:
            agent.close()


@asynccontextmanager
async def running(
    scratch: Path, *, machine: dict[str, Any] | None = None, files: dict[str, bytes] | None = None, **sandbox: Any
) -> AsyncIterator[Live]:
    """A guest with a sandbox and a container that sleeps.

    `sandbox` are arguments of CreateSandbox, `machine` those of `booted_vm`; `files` are executables to write first.
    """
    async with booted(scratch, **(machine or {})) as (_, agent):
        guest = Live(agent)
        await guest.make_root()
        for path, data in (files or {}).items():
            await guest.write(path, data, 0o755)
        await agent.create_sandbox(**({"sandbox_id": "sb", "hostname": "pod"} | sandbox))
        await agent.create_container(container_id=STANDING, oci=spec(process("sleep", "100000")))
        await agent.start_container(STANDING)
        yield guest
