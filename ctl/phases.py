"""`kata-ctl phases`: where the time of a start went, and what made it slow."""

from __future__ import annotations

from collections.abc import Iterator

from ctl.errors import CtlError
from ctl.pods import PodEntry, number, table, text
from ctl.tables import bar
from sandbox.phases import QUEUE
from sandbox.slowness import reasons

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
    vm, start = pod.facts("vm"), pod.facts("start")
    return reasons(
        accelerator=text(vm, "accelerator"),
        debug=vm.get("debug") is True,
        kernel=text(vm, "kernel") if text(start, "kind") == "cold" else "",
        read=number(start, "read_bytes"),
        waited=number(table(start, "durations"), QUEUE),
    )
