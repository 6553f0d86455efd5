"""Runs a Linux guest with a shared directory and an image, in the mount namespace it is started in, as the daemon does.

Prints one JSON object of what was seen. Arguments: a scratch directory, virtiofsd's path.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from hypervisor.devices import SharedFs
from hypervisor.qemu import QemuVm
from hypervisor.virtiofsd import Virtiofsd, VirtiofsdSpec
from hypervisor.vm import VmSpec
from tests.integration.hypervisor import linux

PATIENCE = 30.0


class Shell:
    """Commands on the guest's shell, over the agent's port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: str) -> Shell:
        """Connect; the guest need not have booted."""
        return cls(*await asyncio.open_unix_connection(url.removeprefix("serial://")))

    async def run(self, command: str) -> str:
        """Output of `command`."""
        self._writer.write(f"{command}; echo E'N'D\n".encode())
        return (await self._reader.readuntil(b"END\n"))[:-4].decode().strip()


async def scenario(scratch: Path, virtiofsd: Path) -> dict[str, object]:
    """Boot, look around, mount something on the host, look again."""
    guest, run_dir, shared, image = linux.build(scratch), scratch / "run", scratch / "shared", scratch / "image"
    for directory in (run_dir, shared, scratch / "late"):
        directory.mkdir()
    image.write_bytes(b"an image".ljust(1 << 20, b"\0"))
    (scratch / "late" / "file").write_text("seen")
    mount("--bind", shared, shared)
    mount("--make-shared", shared)
    (shared / "late").mkdir()
    daemon = Virtiofsd(VirtiofsdSpec(virtiofsd, shared, run_dir / "fs"))
    vm = QemuVm(
        VmSpec(
            name="guest",
            run_dir=run_dir,
            qemu=Path("/usr/bin/qemu-system-x86_64"),
            kernel=guest.kernel,
            initrd=guest.initrd,
            image=image,
            vcpus=1,
            max_vcpus=2,
            memory_mib=256,
            max_memory_mib=1024,
            accelerator="tcg",
            shared_fs=SharedFs(run_dir / "fs", "kataShared", 1024),
            seccomp_sandbox="on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        )
    )
    seen: dict[str, object] = {}
    start = time.monotonic()
    try:
        await daemon.start(PATIENCE)
        await vm.start(PATIENCE)
        seen["qemu_s"] = round(time.monotonic() - start, 3)
        shell = await Shell.connect(vm.agent_url)
        seen["kernel"] = await shell.run("uname -s")
        seen["boot_s"] = round(time.monotonic() - start, 3)
        seen["params"] = await shell.run("cat /proc/cmdline")
        seen["port"] = await shell.run("cat /sys/class/virtio-ports/vport*p1/name")
        seen["serial"] = await shell.run("cat /sys/block/vda/serial")
        seen["image"] = await shell.run("head -c 8 /dev/vda")
        seen["read_only"] = await shell.run("cat /sys/block/vda/ro")
        seen["bounce_buffers"] = await shell.run("dmesg | grep -c 'software IO TLB: mapped'")
        seen["rng"] = await shell.run("cat /sys/class/misc/hw_random/rng_current")
        await shell.run("mount -t virtiofs kataShared /mnt")
        mount("--bind", scratch / "late", shared / "late")
        seen["after"] = await shell.run("cat /mnt/late/file")
        # Lazily: the guest's cache has virtiofsd keep files of it open.
        subprocess.run(["umount", "--lazy", shared / "late"], check=True)
        seen["gone"] = await shell.run("until [ ! -e /mnt/late/file ]; do sleep 0.1; done; ls /mnt/late | wc -l")
        mount("--bind", scratch / "late", shared / "late")
        seen["again"] = await shell.run("until [ -e /mnt/late/file ]; do sleep 0.1; done; cat /mnt/late/file")
        await shell.run("umount /mnt; sync")
        await vm.shutdown(PATIENCE)
        seen["end"] = (await vm.wait()).reason
        seen["virtiofsd"] = await daemon.wait()
        seen["left"] = [path.name for path in run_dir.iterdir()]
    finally:
        vm.kill()
        daemon.kill()
        seen["console"] = vm.diagnostics().console_tail[-1000:]
    return seen


def mount(*arguments: str | Path) -> None:
    """mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


async def main() -> None:
    """Run it within `PATIENCE`."""
    async with asyncio.timeout(PATIENCE):
        print(json.dumps(await scenario(Path(sys.argv[1]), Path(sys.argv[2]))))


if __name__ == "__main__":
    asyncio.run(main())
