"""Runs in the guests: reads files as it is told on standard input, and answers with seconds by the guest's clock.

    sequential PATH MIB      read that much in pieces of a mebibyte
    random PATH MIB COUNT    so many blocks of 4 KiB, at places all over that much
    again PATH MIB           read that much twice, of which the second time, out of the guest's page cache, counts

First the guest's page cache of the file is dropped (posix_fadvise(2), POSIX_FADV_DONTNEED). Only the standard library,
and little of it: to load a module costs the guest more than to read.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PIECE = 1 << 20
_BLOCK = 4096
#: A linear congruential generator (Numerical Recipes): the same places for everybody, no two runs of them alike.
_FACTOR, _SUMMAND, _MODULUS = 1664525, 1013904223, 1 << 32


def places(count: int, blocks: int, seed: int = 1) -> list[int]:
    """Offsets in bytes of so many blocks, among the first `blocks` of a file."""
    found = []
    for _ in range(count):
        seed = (seed * _FACTOR + _SUMMAND) % _MODULUS
        found.append((seed * blocks >> 32) * _BLOCK)
    return found


def read(fd: int, offsets: Iterable[int], size: int) -> None:
    """Read `size` bytes at each of the offsets; raises `EOFError` if there are fewer."""
    buffers = [bytearray(size)]
    for offset in offsets:
        if os.preadv(fd, buffers, offset) != size:
            raise EOFError(f"{size} bytes at {offset} are not there")


def timed(kind: str, path: str, mib: int, count: int = 0) -> float:
    """Seconds that the reading takes."""
    fd = os.open(path, os.O_RDONLY)
    offsets: Iterable[int]
    if kind == "random":
        offsets, size, advice = places(count, mib * _PIECE // _BLOCK), _BLOCK, os.POSIX_FADV_RANDOM
    else:
        offsets, size, advice = range(0, mib * _PIECE, _PIECE), _PIECE, os.POSIX_FADV_SEQUENTIAL
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, advice)
        if kind == "again":
            read(fd, offsets, size)
        began = time.perf_counter()
        read(fd, offsets, size)
        return time.perf_counter() - began
    finally:
        os.close(fd)


def main() -> None:
    """Serve until standard input ends; an error is an answer, too."""
    for line in sys.stdin:
        kind, path, *numbers = line.split()
        try:
            print(timed(kind, path, *map(int, numbers)), flush=True)
        except (OSError, EOFError) as error:
            print(f"{path}: {error}", flush=True)


if __name__ == "__main__":
    main()
