"""A minimal Linux guest: Debian's kernel, busybox, and a shell on the agent's port.

The kernel package is downloaded once, with the host's own apt, and kept in the build folder.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

BUILD = Path(__file__).resolve().parents[3] / "build"
_CACHE = BUILD / "test-kernel"
_META_PACKAGE = "linux-image-cloud-amd64"
_MODULES = (
    *("virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_legacy_dev", "virtio/virtio_pci_modern_dev"),
    *("virtio/virtio_pci", "char/virtio_console", "block/virtio_blk", "char/hw_random/virtio-rng"),
)
_FS_MODULES = ("fuse/fuse", "fuse/virtiofs")
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /mnt
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in @MODULES@; do insmod /modules/$module.ko; done
until [ -c /dev/vport*p1 ]; do sleep 0.01; done
port=$(echo /dev/vport*p1)
while true; do sh <>$port >&0 2>&0; sleep 0.1; done
"""


@dataclass(frozen=True)
class Linux:
    """A kernel and an initrd whose shell reads commands from the agent's port."""

    kernel: Path
    initrd: Path


def build(directory: Path) -> Linux:
    """The guest, its initrd in `directory`."""
    package = _unpacked_package()
    kernel = next(package.glob("boot/vmlinuz-*"))
    drivers = next(package.glob("lib/modules/*/kernel"))
    root = directory / "root"
    (root / "bin").mkdir(parents=True)
    (root / "modules").mkdir()
    shutil.copy("/bin/busybox", root / "bin")
    paths = [*(drivers / "drivers" / name for name in _MODULES), *(drivers / "fs" / name for name in _FS_MODULES)]
    for path in paths:
        shutil.copy(path.with_name(path.name + ".ko"), root / "modules")
    init = root / "init"
    init.write_text(_INIT.replace("@MODULES@", " ".join(path.name for path in paths)))
    init.chmod(0o755)
    return Linux(kernel, _archive(root, directory / "initrd"))


def _archive(root: Path, initrd: Path) -> Path:
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with initrd.open("wb") as file:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=file, check=True)
    return initrd


def _unpacked_package() -> Path:
    depends = subprocess.run(["apt-cache", "depends", _META_PACKAGE], capture_output=True, text=True, check=True)
    name = next(line.split()[-1] for line in depends.stdout.splitlines() if "Depends: linux-image-" in line)
    unpacked = _CACHE / name
    if not unpacked.is_dir():
        shutil.rmtree(_CACHE, ignore_errors=True)
        _CACHE.mkdir(parents=True)
        subprocess.run(["apt-get", "download", "-qq", name], cwd=_CACHE, check=True, capture_output=True)
        deb = next(_CACHE.glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", deb, unpacked.with_suffix(".new")], check=True)
        deb.unlink()
        unpacked.with_suffix(".new").rename(unpacked)
    return unpacked
