"""The guest's kernel: Debian's bzImage, unpacked to the vmlinux that is inside.

QEMU starts a vmlinux through its PVH entry point, so the guest does not decompress itself (0.25 s under TCG), and
the host's page cache holds the kernel in the form that is used. The bzImage header is described in the kernel's
Documentation/arch/x86/boot.rst; offsets below are from there.
"""

from __future__ import annotations

import lzma
import struct
import tempfile
import zlib
from pathlib import Path

from guest.image import elf, tools
from guest.image.errors import BuildError

_SETUP_SECTORS = 0x1F1
_MAGIC = 0x202
_PAYLOAD = 0x248
_SECTOR = 512
_DEFAULT_SETUP_SECTORS = 4
# Every compressed payload ends with the length of its contents; gzip has that by itself, and needs it.
_LENGTH_SIZE = 4
_DECOMPRESS_SECONDS = 60
_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_XZ = b"\xfd7zXZ\x00"
_GZIP = b"\x1f\x8b\x08"
_GZIP_WINDOW = 31


def payload(bzimage: bytes) -> bytes:
    """Return the compressed kernel inside a bzImage. Raises BuildError if that is not one."""
    if len(bzimage) < _PAYLOAD + 8 or bzimage[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise BuildError("the kernel package's vmlinuz is not a bzImage")
    sectors = bzimage[_SETUP_SECTORS] or _DEFAULT_SETUP_SECTORS
    offset, length = struct.unpack_from("<II", bzimage, _PAYLOAD)
    start = (sectors + 1) * _SECTOR + offset
    if length == 0 or start + length > len(bzimage):
        raise BuildError("the kernel package's vmlinuz is truncated")
    return bzimage[start : start + length]


def unpack(bzimage: bytes) -> bytes:
    """Return the vmlinux of a bzImage.

    Raises BuildError if it is malformed, compressed in a way not known here, or not bootable through PVH.
    """
    vmlinux = _decompress(payload(bzimage))
    try:
        bootable = elf.has_pvh_entry(vmlinux)
    except elf.ElfError as error:
        raise BuildError(f"the unpacked kernel is malformed: {error}") from error
    if not bootable:
        raise BuildError("the kernel has no PVH entry point (CONFIG_PVH), so QEMU could not start it")
    return vmlinux


def _decompress(data: bytes) -> bytes:
    try:
        if data.startswith(_LZ4_LEGACY):
            return _decompress_lz4(data[:-_LENGTH_SIZE])
        if data.startswith(_XZ):
            return lzma.decompress(data[:-_LENGTH_SIZE])
        if data.startswith(_GZIP):
            return zlib.decompress(data, _GZIP_WINDOW)
    except (lzma.LZMAError, zlib.error) as error:
        raise BuildError(f"the kernel cannot be decompressed: {error}") from error
    raise BuildError(f"the kernel is compressed in an unknown way (it starts with {data[:6].hex()})")


def _decompress_lz4(data: bytes) -> bytes:
    with tempfile.TemporaryDirectory(prefix="guest-kernel-") as directory:
        packed = Path(directory, "vmlinux.lz4")
        packed.write_bytes(data)
        return tools.run(["lz4", "-dc", str(packed)], timeout=_DECOMPRESS_SECONDS)
