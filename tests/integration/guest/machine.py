"""The real guest with disks of its own making, and its agent at hand: no shim, no containerd, nothing of the host's.

The containers' root file system is a disk too (busybox, on ext4), so that every container that runs here shows one.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from agent_client.client import AgentClient
from guest.image import builder
from hypervisor import qemu
from hypervisor.devices import SharedFs
from hypervisor.qemu import QemuVm
from hypervisor.virtiofsd import Virtiofsd, VirtiofsdSpec
from hypervisor.vm import VmSpec
from protos.gen import grpc as pb
from tests.harness.paths import BUILD

#: Seconds for anything under emulation, beside other tests.
PATIENCE = 60.0
MIB = 1 << 20
RUN = "/run/kata-containers"
SHARED = f"{RUN}/shared/containers"
#: Where the pod's root disk is mounted, for all containers.
ROOTFS = f"{RUN}/rootfs"
_VIRTIOFSD = next(p for p in map(Path, ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")) if p.exists())
_APPLETS = (
    "sh",
    "cat",
    "sha256sum",
    "ls",
    "dd",
    "stat",
    "mknod",
    "touch",
    "rm",
    "grep",
    "sleep",
    "df",
    "readlink",
    "env",
    "test",
    "true",
    "tail",
)


@dataclass(frozen=True)
class Disk:
    """A disk for the guest: a raw image and its `-device` but for the drive, e.g. `virtio-blk-pci,addr=3`."""

    name: str
    path: Path
    device: str
    read_only: bool = False

    def arguments(self) -> list[str]:
        """QEMU's arguments."""
        return ["-drive", f"if=none,{self._drive()}", "-device", f"{self.device},drive={self.name},id=dev-{self.name}"]

    def _drive(self) -> str:
        return f"id={self.name},format=raw,file={self.path},readonly={'on' if self.read_only else 'off'}"


@dataclass
class Output:
    """What a program in a container left."""

    status: int
    stdout: str
    stderr: str


@dataclass
class Machine:
    """A running guest."""

    vm: QemuVm
    agent: AgentClient
    scratch: Path
    shared: Path
    _count: int = field(default=0)

    async def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """A command to QEMU."""
        process = self.vm._process
        assert process is not None
        assert process.qmp is not None
        return await process.qmp.execute(command, arguments)

    async def plug(self, disk: Disk) -> None:
        """Plug a disk in while the guest runs."""
        file = {"driver": "file", "filename": str(disk.path)}
        await self.qmp("blockdev-add", {"node-name": disk.name, "driver": "raw", "file": file})
        driver, *words = disk.device.split(",")
        properties = dict(word.split("=", 1) for word in words)
        await self.qmp("device_add", {"driver": driver, "drive": disk.name, "id": f"dev-{disk.name}", **properties})

    def name(self) -> str:
        """An id for a container."""
        self._count += 1
        return f"c{self._count}"

    async def create(self, container_id: str, script: str, **fields: Any) -> None:
        """Make a container that runs a shell script; `fields` are those of `spec` and of CreateContainer."""
        request = {key: fields.pop(key) for key in ("storages", "devices") if key in fields}
        await self.agent.create_container(container_id=container_id, oci=spec(script, **fields), **request)

    async def finish(self, container_id: str) -> Output:
        """Start a container, wait for its end and remove it."""
        await self.agent.start_container(container_id)
        stdout, stderr = await asyncio.gather(
            self._read(self.agent.read_stdout, container_id), self._read(self.agent.read_stderr, container_id)
        )
        status = await self.agent.wait_process(container_id, "")
        await self.agent.remove_container(container_id)
        return Output(status, stdout, stderr)

    async def run(self, script: str, **fields: Any) -> Output:
        """Run a shell script in a container of its own."""
        container_id = self.name()
        await self.create(container_id, script, **fields)
        return await self.finish(container_id)

    async def output(self, script: str, **fields: Any) -> str:
        """The output of a script that must not fail."""
        done = await self.run(script, **fields)
        assert done.status == 0, done
        return done.stdout.strip()

    async def execute(self, container_id: str, script: str) -> str:
        """The output of a further process in a running container."""
        exec_id = f"{container_id}-{self.name()}"
        await self.agent.exec_process(container_id=container_id, exec_id=exec_id, process=process(script))
        read = await self._read(self.agent.read_stdout, container_id, exec_id)
        await self.agent.wait_process(container_id, exec_id)
        return read.strip()

    async def _read(self, method: Any, container_id: str, exec_id: str = "") -> str:
        data = b""
        while chunk := await method(container_id, exec_id, 1 << 16):
            data += chunk
        return data.decode()


def process(script: str, env: Sequence[str] = ()) -> pb.Process:
    """A shell with all capabilities, so that only what is under test can stop it."""
    capabilities = [f"CAP_{name}" for name in ("MKNOD", "SYS_ADMIN", "DAC_OVERRIDE", "SYS_RAWIO", "CHOWN", "FOWNER")]
    return pb.Process(
        args=["/bin/sh", "-c", script],
        env=["PATH=/bin", *env],
        cwd="/",
        user=pb.User(),
        capabilities=pb.LinuxCapabilities(bounding=capabilities, effective=capabilities, permitted=capabilities),
    )


def spec(
    script: str,
    *,
    root: str = ROOTFS,
    binds: dict[str, str] | None = None,
    rules: Iterable[pb.LinuxDeviceCgroup] = (),
    linux_devices: Iterable[pb.LinuxDevice] = (),
    env: Sequence[str] = (),
) -> pb.Spec:
    """The spec of a container; `binds` are guest paths by their destinations."""
    mounts = [
        pb.Mount(destination="/proc", type="proc", source="proc"),
        pb.Mount(destination="/sys", type="sysfs", source="sysfs"),
        pb.Mount(destination="/dev", type="tmpfs", source="tmpfs", options=["mode=755"]),
        *(
            pb.Mount(destination=destination, type="bind", source=source, options=["rbind"])
            for destination, source in (binds or {}).items()
        ),
    ]
    resources = pb.LinuxResources(devices=list(rules))
    return pb.Spec(
        process=process(script, env),
        root=pb.Root(path=root),
        mounts=mounts,
        linux=pb.Linux(resources=resources, devices=list(linux_devices)),
    )


def directory_tree(directory: Path, files: dict[str, bytes]) -> Path:
    """Files below a new directory."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def make_root(directory: Path) -> Path:
    """The tree of the containers' root file system."""
    for name in ("bin", "dev", "proc", "sys", "mnt", "tmp", "data", "config"):
        (directory / name).mkdir(parents=True)
    binary = Path("/bin/busybox").read_bytes()
    for applet in _APPLETS:
        (directory / "bin" / applet).write_bytes(binary) if applet == "sh" else (directory / "bin" / applet).symlink_to(
            "sh"
        )
    (directory / "bin" / "sh").chmod(0o755)
    return directory


def ext4(image: Path, size: int, tree: Path | None = None) -> Path:
    """An image of `size` bytes with ext4, and what is in `tree` on it."""
    _sparse(image, size)
    _command("mkfs.ext4", "-q", "-F", *(["-d", str(tree)] if tree else []), str(image))
    return image


def erofs(image: Path, tree: Path) -> Path:
    """An erofs image of a tree."""
    _command("mkfs.erofs", "--quiet", str(image), str(tree))
    return image


def xfs(image: Path, size: int) -> Path:
    """An image of `size` bytes with XFS."""
    _command("mkfs.xfs", "-q", str(_sparse(image, size)))
    return image


def blank(image: Path, size: int) -> Path:
    """An empty disk."""
    return _sparse(image, size)


def swap(image: Path, size: int) -> Path:
    """A disk that mkswap has prepared."""
    _command("mkswap", "-q", str(_sparse(image, size)))
    return image


def _sparse(image: Path, size: int) -> Path:
    with image.open("wb") as file:
        file.truncate(size)
    return image


def _command(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True, timeout=PATIENCE)


@asynccontextmanager
async def running(
    scratch: Path,
    disks: Sequence[Disk],
    extra: Sequence[str],
    storages: Sequence[pb.Storage],
    kernel_params: tuple[str, ...] = (),
) -> AsyncIterator[Machine]:
    """A guest with these disks and further arguments of QEMU; its sandbox has these storages and the share."""
    built = builder.build(BUILD / "guest").directory
    run_dir, shared = scratch / "run", scratch / "shared"
    for directory in (run_dir, shared):
        directory.mkdir()
    vm_spec = VmSpec(
        name="guest",
        run_dir=run_dir,
        qemu=Path("/usr/bin/qemu-system-x86_64"),
        kernel=built / "vmlinux",
        initrd=built / "kata-initrd.img",
        image=built / "kata-image.erofs",
        kernel_params=kernel_params,
        vcpus=2,
        memory_mib=512,
        max_memory_mib=2048,
        accelerator="tcg",
        shared_fs=SharedFs(run_dir / "fs", "kataShared", 1024),
    )
    daemon, vm = Virtiofsd(VirtiofsdSpec(_VIRTIOFSD, shared, run_dir / "fs")), QemuVm(vm_spec)
    plain = qemu.command_line
    arguments = [*(word for disk in disks for word in disk.arguments()), *extra]
    try:
        await daemon.start(PATIENCE)
        with patch.object(qemu, "command_line", lambda *given: [*plain(*given), *arguments]):
            await vm.start(PATIENCE)
        agent = await AgentClient.connect(vm.agent_url, timeout=PATIENCE)
        await agent.create_sandbox(sandbox_id="pod", hostname="pod", storages=storages)
        yield Machine(vm, agent, scratch, shared)
        agent.close()
        await vm.shutdown(PATIENCE)
    finally:
        print(vm.diagnostics().console_tail)
        print(vm.diagnostics().stderr_tail)
        vm.kill()
        daemon.kill()
