"""The speed of this host's time-stamp counter, for the kernels of emulated guests, which would measure it wrongly.

QEMU's emulator gives a guest the host's counter (`cpu_get_tsc`). Its kernel measures that against an emulated timer for
10 ms, and a host that runs something else meanwhile spoils it: with eight busy processes for each CPU, one boot in
twenty took 2300 MHz for a few hundred. Linux trusts the timer all the same ("Using PIT calibration value"), and from
then on all clocks of that guest, and the deadlines in it, run several times too fast. KVM tells its guests by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from hypervisor.vm import VmSpec

#: Seconds between two readings. Nobody else runs meanwhile: all the daemon does is to start this VM.
INTERVAL = 0.004
#: By which part the speeds of two intervals may differ.
AGREEMENT = 1e-4
#: How often it is tried on a host that is busy.
ATTEMPTS = 3

#: rdtsc; shl rdx, 32; or rax, rdx; ret (Intel SDM, volume 2).
_READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
_READINGS = 8

#: A time of the monotonic clock in nanoseconds, and the counter then.
Mark = tuple[int, int]


def tsc_khz() -> int | None:
    """The counter's speed in kHz; None where it is not even, or where no code of ours may be run to read it.

    Takes two intervals, or a few more on a busy host.
    """
    if os.uname().machine != "x86_64":
        return None
    try:
        return next(filter(None, (agreed(_marks()) for _ in range(ATTEMPTS))), None)
    except OSError:
        return None


def clocked(spec: VmSpec, measure: Callable[[], int | None] = tsc_khz) -> VmSpec:
    """`spec`, whose kernel is told the speed if it boots emulated and the speed can be had."""
    if spec.accelerator != "tcg" or spec.saved is not None:
        return spec
    khz = measure()
    return replace(spec, kernel_params=(f"tsc_early_khz={khz}", *spec.kernel_params)) if khz else spec


def agreed(marks: Sequence[Mark]) -> int | None:
    """The speed in kHz from the first of `marks` to the last, if it is that of every interval between them."""
    speeds = [_speed(earlier, later) for earlier, later in pairwise(marks)]
    if min(speeds) <= 0 or max(speeds) - min(speeds) > AGREEMENT * min(speeds):
        return None
    return round(_speed(marks[0], marks[-1]))


def _speed(earlier: Mark, later: Mark) -> float:
    return (later[1] - earlier[1]) * 1e6 / (later[0] - earlier[0])


def _marks() -> list[Mark]:
    """Three marks; raises `OSError` where memory can't be made executable."""
    import ctypes
    import mmap

    everything = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=everything)
    page.write(_READ_COUNTER)
    code = ctypes.c_char.from_buffer(page)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(code))
    marks = [_mark(read)]
    for _ in range(2):
        time.sleep(INTERVAL)
        marks.append(_mark(read))
    return marks


def _mark(read: Callable[[], int]) -> Mark:
    """The best of some readings: the one that took least."""
    readings = [(time.monotonic_ns(), read(), time.monotonic_ns()) for _ in range(_READINGS)]
    before, count, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return (before + after) // 2, count
