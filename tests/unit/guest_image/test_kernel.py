"""The vmlinux inside a bzImage."""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable

import pytest

from guest.image import kernel
from guest.image.errors import BuildError

Make = Callable[..., bytes]


def _bzimage(compressed: bytes, *, sectors: int = 2, length: int | None = None) -> bytes:
    setup = bytearray((sectors + 1) * 512)
    setup[0x1F1] = sectors
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 16, len(compressed) if length is None else length)
    return bytes(setup) + bytes(16) + compressed


def _sized(packed: bytes, vmlinux: bytes) -> bytes:
    return packed + struct.pack("<I", len(vmlinux))


def test_an_xz_kernel_is_unpacked(make_kernel: Make) -> None:
    vmlinux = make_kernel()

    assert kernel.unpack(_bzimage(_sized(lzma.compress(vmlinux), vmlinux))) == vmlinux


def test_a_gzip_kernel_is_unpacked(make_kernel: Make) -> None:
    assert kernel.unpack(_bzimage(gzip.compress(make_kernel()))) == make_kernel()


@pytest.mark.skipif(shutil.which("lz4") is None, reason="lz4 is not installed")
def test_an_lz4_kernel_is_unpacked(make_kernel: Make) -> None:
    vmlinux = make_kernel()
    packed = subprocess.run(["lz4", "-l", "-c"], input=vmlinux, capture_output=True, check=True, timeout=10).stdout

    assert kernel.unpack(_bzimage(_sized(packed, vmlinux))) == vmlinux


def test_a_kernel_that_qemu_could_not_start_is_refused(make_kernel: Make) -> None:
    with pytest.raises(BuildError, match="PVH"):
        kernel.unpack(_bzimage(gzip.compress(make_kernel(pvh=False))))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "not a bzImage"),
        (b"\x7fELF" + bytes(4096), "not a bzImage"),
        (_bzimage(b"abc", length=4096), "truncated"),
        (_bzimage(b"abc", length=0), "truncated"),
        (_bzimage(b"BZh91AY&SY"), "unknown way"),
        (_bzimage(b"\x1f\x8b\x08damaged"), "decompressed"),
        (_bzimage(gzip.compress(b"no kernel")), "malformed"),
    ],
)
def test_what_is_no_kernel_is_named_in_one_line(image: bytes, reason: str) -> None:
    with pytest.raises(BuildError, match=reason):
        kernel.unpack(image)
