"""The floor of everything that goes over the agent's channel: the guest's kernel with nothing but busybox at the port.

Its initrd is the guest's own with another first program in it, which takes commands from the port, a line each:

    echo SIZE COUNT     read up to SIZE bytes and write them back, COUNT times
    write KIB           write that many KiB of zeros, from a buffer in memory
    fill KIB            make a file of that many KiB
    splice              write that file by sendfile(2), out of the page cache
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from guest.image import cpio
from tests.harness.live_guest import PATIENCE, booted_vm

_INIT = rb"""#!/bin/busybox sh
box=/bin/busybox
$box mount -t devtmpfs dev /dev
read -r modules </etc/modules
$box modprobe -a $modules
set -- /dev/vport*p1
exec 3<>$1
while read -r command first second <&3; do
    case $command in
        echo) $box dd bs=$first count=$second <&3 >&3 2>/dev/null ;;
        write) $box dd if=/dev/zero bs=64k count=$((first / 64)) >&3 2>/dev/null ;;
        fill) $box dd if=/dev/zero of=/data bs=64k count=$((first / 64)) 2>/dev/null ;;
        splice) $box cat /data >&3 ;;
    esac
done
"""


class RawGuest:
    """The host's end of the port; plain system calls in a thread, for nothing else is to be measured."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(path)

    async def echoes(self, size: int, count: int) -> list[float]:
        """Round trips of `size` bytes, in milliseconds."""
        return await asyncio.to_thread(self._echoes, size, count)

    async def written(self, kib: int) -> float:
        """Have the guest write that many KiB (a multiple of 64); MiB per second."""
        return await asyncio.to_thread(self._throughput, f"write {kib}", kib)

    async def fill(self, kib: int) -> None:
        """Have the guest make the file for `spliced`; done before it takes the next command."""
        await asyncio.to_thread(self._socket.sendall, f"fill {kib}\n".encode())
        await self.echoes(1, 1)

    async def spliced(self, kib: int) -> float:
        """Have the guest send its file, which has that many KiB; MiB per second."""
        return await asyncio.to_thread(self._throughput, "splice", kib)

    def _echoes(self, size: int, count: int) -> list[float]:
        self._socket.sendall(f"echo {size} {count}\n".encode())
        return [self._echo(bytes(size)) for _ in range(count)]

    def _echo(self, message: bytes) -> float:
        began = time.perf_counter()
        self._socket.sendall(message)
        self._receive(len(message))
        return (time.perf_counter() - began) * 1000

    def _throughput(self, command: str, kib: int) -> float:
        began = time.perf_counter()
        self._socket.sendall(f"{command}\n".encode())
        self._receive(kib << 10)
        return kib / 1024 / (time.perf_counter() - began)

    def _receive(self, size: int) -> None:
        while size:
            data = self._socket.recv(min(size, 1 << 18))
            if not data:
                raise RuntimeError("the raw guest has gone")
            size -= len(data)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@asynccontextmanager
async def raw_guest(directory: Path) -> AsyncIterator[RawGuest]:
    """A running guest of that kind, with its run directory in `directory`."""
    initrd = directory / "raw-initrd"

    def adapted(original: bytes) -> bytes:
        return original + cpio.archive([cpio.file("init", _INIT, 0o755)])

    async with booted_vm(directory, initrd=initrd, adapt=adapted) as vm:
        guest = RawGuest(vm.agent_url.removeprefix("serial://"))
        try:
            yield guest
        finally:
            guest.close()
