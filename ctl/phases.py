"""`kata-ctl phases`: where the time of a start went, and what made it slow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ctl.errors import CtlError
from ctl.pods import PodEntry, number, table, text
from ctl.tables import bar

#: The first bytes of a kernel that needs no unpacking (ELF); `bzImage` begins otherwise.
_ELF = b"\x7fELF"
_PHASES_MAX = 100


def chart(pod: PodEntry) -> str:
    """The phases with bars, and why the start took long where that is known. Raises `CtlError` before it is up."""
    start = pod.facts("start")
    durations = table(start, "durations")
    if not durations:
        raise CtlError(f"sandbox {pod.id} has told no phases: it is {pod.state}")
    total = number(start, "total")
    heading = f"sandbox {pod.id}: {text(start, 'kind')} start in {total:.3f} s"
    names = list(durations)[:_PHASES_MAX]
    width = max(map(len, names))
    lines = [
        f"  {name:<{width}}  {number(durations, name):8.3f} s  {bar(number(durations, name), total)}" for name in names
    ]
    reasons = [f"  slow: {reason}" for reason in slowness(pod)]
    return "\n".join((heading, *lines, *reasons))


def slowness(pod: PodEntry) -> Iterator[str]:
    """What makes a start of this kind slower than it could be."""
    vm = pod.facts("vm")
    if text(vm, "accelerator") == "tcg":
        yield "no KVM: the guest's processor is emulated (kata-ctl check says why)"
    if vm.get("debug") is True:
        yield "enable_debug is set: the guest's kernel talks to its console"
    kernel = text(vm, "kernel")
    if kernel and _is_compressed(Path(kernel)):
        yield f"the kernel {kernel} is compressed: an uncompressed one (vmlinux) saves unpacking it"


def _is_compressed(kernel: Path) -> bool:
    try:
        with kernel.open("rb") as file:
            return file.read(len(_ELF)) != _ELF
    except OSError:
        return False
