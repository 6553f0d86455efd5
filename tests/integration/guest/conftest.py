"""One guest for all tests of this directory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.gen import grpc as pb
from tests.integration.guest import machine as making
from tests.integration.guest.machine import MIB, ROOTFS, SHARED, Disk, Machine

#: The content of the file `data` on every disk that has one.
CONTENT = os.urandom(3 * MIB)


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    """One event loop for the guest and its tests."""
    return "asyncio"


@pytest.fixture(scope="package")
def content() -> bytes:
    """What the disks hold."""
    return CONTENT


@pytest.fixture(scope="package")
async def machine(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[Machine]:
    """The guest: disks on the root bus, behind a bridge, behind a SCSI controller, and an nvdimm."""
    scratch = tmp_path_factory.mktemp("guest")
    root = pb.Storage(driver="blk", source="10", fstype="ext4", mount_point=ROOTFS)
    share = pb.Storage(driver="virtio-fs", source="kataShared", fstype="virtiofs", mount_point=SHARED + "/")
    nvdimm = making.ext4(scratch / "nvdimm", 16 * MIB, _data(scratch / "nvdimm-tree"))
    extra = [
        *("-machine", "nvdimm=on"),
        *("-object", f"memory-backend-file,id=nv0,mem-path={nvdimm},size=16M,share=on"),
        *("-device", "nvdimm,id=nvdimm0,memdev=nv0"),
    ]
    async with making.running(scratch, _disks(scratch), extra, [share, root]) as guest:
        yield guest


def _disks(scratch: Path) -> list[Disk]:
    data = _data(scratch / "data-tree")
    root = making.make_root(scratch / "root-tree")
    lower = [
        making.erofs(scratch / f"layer{n}", making.directory_tree(scratch / f"layer{n}-tree", files))
        for n, files in enumerate(_LAYERS)
    ]
    return [
        Disk("root", making.ext4(scratch / "root", 16 * MIB, root), "virtio-blk-pci,addr=0x10"),
        Disk("data", making.ext4(scratch / "data", 16 * MIB, data), "virtio-blk-pci,bus=pci-bridge-0,addr=0x3"),
        Disk("scsi-controller-disk", making.blank(scratch / "blank", 32 * MIB), "virtio-blk-pci,addr=0x12"),
        Disk("swap", making.swap(scratch / "swap", 16 * MIB), "virtio-blk-pci,addr=0x13"),
        *(Disk(f"layer{n}", path, f"virtio-blk-pci,addr={0x14 + n:#x}", True) for n, path in enumerate(lower)),
        Disk("upper", making.blank(scratch / "upper", 16 * MIB), "virtio-blk-pci,addr=0x16"),
        _ScsiDisk("scsi", making.ext4(scratch / "scsi", 16 * MIB, data), "scsi-hd,bus=scsi0.0,scsi-id=3,lun=1"),
    ]


#: Layers of a root file system, uppermost first: what the upper one hides, and what each has alone.
_LAYERS = (
    {"both": b"upper", "top/alone": b"top"},
    {"both": b"lower", "bottom/alone": b"bottom"},
)


class _ScsiDisk(Disk):
    """A SCSI disk, which brings its controller along."""

    def arguments(self) -> list[str]:
        return ["-device", "virtio-scsi-pci,id=scsi0,addr=0x11", *super().arguments()]


def _data(directory: Path) -> Path:
    return making.directory_tree(directory, {"data": CONTENT, "below/file": b"x"})
