"""Reads of a file from the host through virtio-fs and virtio-blk, in a pod and in the same guest without us.

The file is in the host's page cache and not in the guest's: what is measured is the way from one to the other. Both
guests run at the same time, and read in turns. The clock is the guest's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import file_guests
from bench.file_guests import READER, Guest
from bench.outcome import Bar, Outcome, number
from bench.stats import median, ratio
from bench.subjects import OURS, Context
from tests.harness.command import run as run_command
from tests.harness.ctr import Ctr

BARE = "bare QEMU"
#: At least this share of what the bare QEMU does.
SHARE = 0.95

_ROUNDS = 8
_MIB = 256
_COUNT = 6000
_NAME = "bench-files"
_WAYS = ("virtio-fs", "virtio-blk")


@dataclass(frozen=True)
class Kind:
    """A way of reading: what the reader is told, how much is read, and what of."""

    name: str
    title: str
    unit: str
    numbers: tuple[int, ...]
    amount: int


KINDS = (
    Kind("sequential", "Sequential reads of a file, in pieces of 1 MiB", "MiB/s", (_MIB,), _MIB),
    Kind("random", f"Random reads of a file, blocks of 4 KiB in {_MIB} MiB", "reads/s", (_MIB, _COUNT), _COUNT),
)


async def run(context: Context) -> list[Outcome]:
    """The benchmark; the first round warms the host's page cache and does not count."""
    data = context.directory / "data"
    data.mkdir()
    _fill(data / "file")
    shutil.copy(Path(__file__).with_name("file_reader.py"), data / READER)
    ctr = Ctr(context.bed.socket, context.bed.runtime, configuration=_configuration(context))
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(_loop_device(data / "file")) for _ in range(2))
        pod = stack.enter_context(file_guests.pod(ctr, _NAME, data, ours))
        # Its answer says that the pod runs, and so which command lines it has.
        await _rates(KINDS[0], {OURS: pod})
        async with file_guests.bare(_NAME, context.scratch("bare"), data, theirs) as bare:
            return await _measure(context, {OURS: pod, BARE: bare})


async def _measure(context: Context, guests: dict[str, Guest]) -> list[Outcome]:
    series: dict[str, dict[str, list[float]]] = {kind.name: {} for kind in KINDS}
    for index in range(1 + context.rounds(_ROUNDS)):
        # Who is second finds the host's processors as the first has left them: they take turns in that, too.
        ordered = dict(list(guests.items())[:: 1 if index % 2 else -1])
        for kind in KINDS:
            for label, rate in (await _rates(kind, ordered)).items():
                if index:
                    series[kind.name].setdefault(label, []).append(rate)
    again = [await one.seconds("again", f"{one.share}/file", _MIB) for one in guests.values()]
    return [_outcome(kind, series[kind.name], _MIB / median(again)) for kind in KINDS]


async def _rates(kind: Kind, guests: dict[str, Guest]) -> dict[str, float]:
    """One reading by each way and guest, by its label in the table."""
    found = {}
    for way in _WAYS:
        for subject, guest in guests.items():
            path = f"{guest.share}/file" if way == _WAYS[0] else guest.disk
            seconds = await guest.seconds(kind.name, path, *kind.numbers)
            found[_label(way, subject)] = kind.amount / seconds
    return found


def _label(way: str, subject: str) -> str:
    return f"{way}, {'pod' if subject == OURS else subject}"


def _outcome(kind: Kind, series: dict[str, list[float]], cached: float) -> Outcome:
    bars = []
    for way in _WAYS:
        pod, floor = series[_label(way, OURS)], series[_label(way, BARE)]
        beside = f"{BARE}: {number(median(floor))} {kind.unit}, the pod: {number(median(pod))}"
        bars.append(Bar(f"{way}: the bare QEMU's rate, times the pod's", ratio(floor, pod), 1 / SHARE, "", beside))
    return Outcome(
        name=f"files-{kind.name}",
        title=kind.title,
        unit=kind.unit,
        series={_label(way, subject): series[_label(way, subject)] for way in _WAYS for subject in (OURS, BARE)},
        bars=bars,
        facts=[f"out of the guest's own page cache, for comparison: {cached:.0f} MiB/s (sequential)"],
    )


def _fill(path: Path) -> None:
    """Content that no layer below can leave out."""
    piece = os.urandom(1 << 20)
    with path.open("wb") as file:
        for index in range(_MIB):
            file.write(index.to_bytes(8, "little") + piece[8:])


def _configuration(context: Context) -> Path:
    path = context.directory / "files.toml"
    section = "[hypervisor.qemu]\n"
    path.write_text(context.bed.configuration.read_text().replace(section, section + file_guests.CONFIGURATION, 1))
    return path


@contextmanager
def _loop_device(image: Path) -> Iterator[Path]:
    """A block device of the host that shows a file; its users must be gone at the end."""
    device = Path(run_command("losetup", "--find", "--show", str(image)).check().text)
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True, timeout=30)
