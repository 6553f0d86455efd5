"""Huge pages for hugetlbfs storages: taken out of the guest's memory when one is mounted, given back afterwards.

See the kernel's Documentation/admin-guide/mm/hugetlbpage.rst. The kernel takes what it can get of what it is asked for,
so the count is read back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from guest.agent.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError, failed

_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)(?:i?B?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse(options: Sequence[str]) -> tuple[int, int]:
    """Page size and size of the storage in bytes, from `pagesize=2M,size=500M` or plain numbers."""
    values = dict(word.partition("=")[::2] for words in options for word in words.split(","))
    page_size, size = _bytes(values.get("pagesize", "")), _bytes(values.get("size", ""))
    if page_size < 1024 or page_size & (page_size - 1) or size < page_size or size % page_size:
        raise InvalidArgumentError(f"hugetlbfs of {size} bytes in pages of {page_size} can't be")
    return page_size, size


def reserve(sys: str, page_size: int, size: int) -> Callable[[], None]:
    """Add pages to the kernel's pool; returns how to give them back. `ResourceExhaustedError` if it has fewer."""
    path = f"{sys}/kernel/mm/hugepages/hugepages-{page_size >> 10}kB/nr_hugepages"
    pages = size // page_size
    try:
        before = _count(path)
        _set(path, before + pages)
        got = _count(path) - before
        if got < pages:
            _set(path, before)
            raise ResourceExhaustedError(f"{got} of {pages} huge pages of {page_size >> 10} KiB could be had")
    except FileNotFoundError as error:
        raise FailedPreconditionError(f"the guest has no huge pages of {page_size >> 10} KiB") from error
    except OSError as error:
        raise failed("reserve huge pages", error) from error
    return lambda: _set(path, max(0, _count(path) - pages))


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f"hugetlbfs needs pagesize= and size=, not {text[:40]!r}")
    return int(match[1]) * _UNITS[match[2].upper()]


def _count(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read(64))


def _set(path: str, count: int) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(str(count))
