"""What a VM boots from, looked at before QEMU is started, whose own words for a bad file seldom name it."""

from __future__ import annotations

from pathlib import Path

from hypervisor.errors import HypervisorError
from hypervisor.vm import VmSpec

#: Linux/x86 boot protocol: "HdrS" at this offset of a bzImage.
_BZIMAGE_MAGIC_AT = 0x202
_BZIMAGE_MAGIC = b"HdrS"
_ELF_MAGIC = b"\x7fELF"


def check(spec: VmSpec) -> None:
    """Raise HypervisorError unless the spec's directory and files are there, readable, and the kernel is one."""
    if not spec.run_dir.is_dir():
        raise HypervisorError(f"run directory {spec.run_dir} does not exist")
    if not is_kernel(_head(spec.kernel, "kernel", _BZIMAGE_MAGIC_AT + len(_BZIMAGE_MAGIC))):
        raise HypervisorError(f"kernel {spec.kernel} is neither a bzImage nor an ELF image")
    for what, path in (("initrd", spec.initrd), ("image", spec.image)):
        if path is not None and not _head(path, what, 1):
            raise HypervisorError(f"{what} {path} is empty")


def is_kernel(head: bytes) -> bool:
    """Whether a file that starts with `head` (at least 518 bytes of it) is something QEMU boots."""
    return head[:4] == _ELF_MAGIC or head[_BZIMAGE_MAGIC_AT:][:4] == _BZIMAGE_MAGIC


def _head(path: Path, what: str, size: int) -> bytes:
    if path.exists() and not path.is_file() and not path.is_block_device():
        raise HypervisorError(f"{what} {path} is not a file")
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(size)
    except OSError as error:
        raise HypervisorError(f"{what} {path}: {error.strerror or error}") from error
