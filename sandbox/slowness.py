"""What made a start slower than it need have been, in words: for the log, and for `kata-ctl phases`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sandbox.phases import QUEUE

#: The first bytes of a kernel that needs no unpacking (ELF); `bzImage` begins otherwise.
_ELF: Final = b"\x7fELF"
#: So many bytes read from disk, or seconds waited, are worth a word.
READ_LEAST: Final = 4 << 20
WAITED_LEAST: Final = 0.5


def reasons(*, accelerator: str, debug: bool, kernel: str, read: float, waited: float) -> Iterator[str]:
    """Why a start took as long as it did: `read` bytes came from disk for it, `waited` seconds went by in line."""
    if waited >= WAITED_LEAST:
        yield f"other VMs booted: it waited {waited:.1f} s for its turn ({QUEUE}; max_parallel_boots)"
    if accelerator == "tcg":
        yield "no KVM: the guest's processor is emulated (kata-ctl check says why)"
    if debug:
        yield "enable_debug is set: the guest's kernel talks to its console"
    if kernel and _is_compressed(Path(kernel)):
        yield f"the kernel {kernel} is compressed: an uncompressed one (vmlinux) saves unpacking it"
    if read >= READ_LEAST:
        yield f"cold page cache: {read / (1 << 20):.0f} MiB of the guest's files were read from disk"


def _is_compressed(kernel: Path) -> bool:
    try:
        with kernel.open("rb") as file:
            return file.read(len(_ELF)) != _ELF
    except OSError:
        return False


def bytes_read(pid: int, proc: Path = Path("/proc")) -> int:
    """What a process has had read from disk until now (`read_bytes` of proc(5), io); 0 where that is not told."""
    try:
        for line in (proc / str(pid) / "io").read_text().splitlines():
            name, _, value = line.partition(": ")
            if name == "read_bytes":
                return int(value)
    except (OSError, ValueError):
        pass
    return 0
