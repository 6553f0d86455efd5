"""The two guests of the file benchmark: a pod with a shared directory and a disk, and the same without us.

The bare one has the command lines of the pod's own QEMU and virtiofsd. Its disk has the options of the pod's, which was
plugged in. Its first program mounts what the agent mounts, and runs the reader.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.bare_qemu import command_of, floor_command, launched, listening
from bench.bare_virtiofsd import share as shared
from guest.image import cpio
from hypervisor.hotplug import addresses
from hypervisor.hotplug.disks import DiskImage, DiskSettings, front_end, node
from hypervisor.hotplug.slots import PciSlots
from tests.harness.ctr import Ctr

#: How the pod's disk is attached, by its configuration, and so the other one's.
SETTINGS = DiskSettings(bus="virtio-blk", aio="threads")
CONFIGURATION = 'block_device_driver = "virtio-blk"\nblock_device_aio = "threads"\n'

READER = "reader.py"
_TIMEOUT = 120.0
_DATA = "/data"
_BARE_DATA, _BARE_DISK = "/mnt", "/dev/data"

#: The host's interpreter, which a container without a distribution has by way of the host's /usr.
_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_INTERPRETER = (f"{_LIBRARIES}/ld-linux-x86-64.so.2", "--library-path", _LIBRARIES, "/usr/bin/python3", "-ISB")

_INIT = f"""#!/bin/busybox sh
box=/bin/busybox
$box mount -t devtmpfs dev /dev
read -r modules </etc/modules
$box modprobe -a $modules
$box mount -t sysfs sysfs /sys
for disk in /sys/block/vd*; do
    serial=
    read -r serial <$disk/serial
    if [ "$serial" = kata-image ]; then
        $box mount -t erofs -o ro /dev/${{disk##*/}} /root
    else
        $box ln -s ${{disk##*/}} {_BARE_DISK}
    fi
done
set -- /dev/vport*p1
$box mount -o move /dev /root/dev
$box mount -t virtiofs kataShared /root{_BARE_DATA}
exec 3<>/root$1
exec $box chroot /root /usr/bin/python3 -ISB {_BARE_DATA}/{READER} <&3 >&3
"""


@dataclass(frozen=True)
class Guest:
    """A guest's reader, and where it finds the file: in the shared directory, and as a disk."""

    requests: IO[bytes]
    answers: IO[bytes]
    share: str
    disk: str

    def seconds(self, kind: str, path: str, *numbers: int) -> float:
        """How long a reading took (see `file_reader`); raises `RuntimeError` with what the guest says instead."""
        self.requests.write(f"{kind} {path} {' '.join(map(str, numbers))}\n".encode())
        self.requests.flush()
        answer = self.answers.readline().decode(errors="replace").strip()
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
    words = ctr.run_arguments(name, *_INTERPRETER, f"{_DATA}/{READER}", options=options)
    client = subprocess.Popen(ctr.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert client.stdin is not None
        assert client.stdout is not None
        yield Guest(client.stdin, client.stdout, _DATA, str(disk))
    finally:
        client.kill()
        client.communicate()
        if name in ctr.containers():
            ctr.remove(name)


@contextmanager
def bare(name: str, scratch: Path, directory: Path, disk: Path) -> Iterator[Guest]:
    """The same without us; `name` is the running pod that it takes after."""
    path = scratch / "agent"
    with ExitStack() as stack:
        share = stack.enter_context(shared(name, scratch, directory))
        listener = stack.enter_context(listening(path))
        command = [*floor_command(command_of(name), listener.fileno(), share), *_disk_options(disk)]
        place = command.index("-initrd") + 1
        initrd = scratch / "initrd"
        initrd.write_bytes(Path(command[place]).read_bytes() + cpio.archive([cpio.file("init", _INIT.encode(), 0o755)]))
        command[place] = str(initrd)
        stack.enter_context(launched(command, scratch / "qemu.log", [listener.fileno()]))
        listener.close()
        stream = stack.enter_context(socket.socket(socket.AF_UNIX))
        stream.settimeout(_TIMEOUT)
        stream.connect(str(path))
        yield Guest(stream.makefile("wb"), stream.makefile("rb"), _BARE_DATA, _BARE_DISK)


def _disk_options(disk: Path) -> list[str]:
    """A disk as it is plugged into a pod, as options of a QEMU that is started."""
    image = DiskImage(disk, is_device=True, read_only=False)
    place = addresses.pci(PciSlots(1).take("data"))
    device = {"driver": place.front_end, "id": "data-dev", **front_end("data", image, SETTINGS), **place.properties}
    return ["-blockdev", json.dumps(node("data", image, SETTINGS)), "-device", json.dumps(device)]
