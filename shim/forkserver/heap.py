"""Keeps what a forked daemon allocates off the pages that it shares with the others.

After the imports the interpreter's heap is full of small gaps, and what a daemon puts into one makes a copy of the
whole page. So the server fills them before it forks, and a daemon's objects get pages of their own, many to a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

#: What CPython 3.11 does with objects (Objects/obmalloc.c): pools of equal blocks, whose sizes are multiples of 16.
POOL_SIZE = 16 * 1024
_POOL_HEADER = 48
_ALIGNMENT = 16
_LARGEST = 512
#: So many blocks of a pool may be somebody else's: of this module, which works meanwhile.
_TOLERANCE = 8
#: Bound of the blocks for one size, should the allocator not be the one that is expected.
_MOST = 20_000
_BYTES_OVERHEAD = 33
#: An int of 32 bytes, while the sum with a small one is.
_INT = 1 << 29


#: What is in the gaps.
_filling: list[object] = []


def fill_gaps() -> None:
    """Fill the gaps of all sizes, for as long as this process and its forks live."""
    for size in range(_ALIGNMENT, _LARGEST + 1, _ALIGNMENT):
        _filling.extend(_fill(_maker(size), (POOL_SIZE - _POOL_HEADER) // size - _TOLERANCE))


def _fill(make: Callable[[int], object], capacity: int) -> Iterator[object]:
    """Objects until a whole pool has nothing but them, which is a fresh one and has no gaps: that is given back."""
    pool, members = 0, list[object]()
    for number in range(_MOST):
        one = make(number)
        if id(one) // POOL_SIZE != pool:
            yield from members
            pool, members = id(one) // POOL_SIZE, []
        members.append(one)
        if len(members) >= capacity:
            return


def _maker(size: int) -> Callable[[int], object]:
    """What makes a new object of `size` bytes."""
    if size == 16:
        return lambda _: object()
    if size == 32:
        return lambda number: _INT + number
    return lambda _: bytes(size - _BYTES_OVERHEAD)
